//! What is asked of supervisors that come and go.

use super::*;
use crate::container::tests::{config, home, task};
use crate::control::Listener;

/// A supervisor listens no more before it has written down the end, and not yet when it has just begun.
#[test]
fn who_has_a_supervisor_is_asked_until_it_answers_or_is_gone() {
    let (_place, containers) = home();
    let (made, supervision) = containers.create(config("name"), &task()).unwrap();
    std::thread::scope(|scope| {
        let asker = scope.spawn(|| connect(&made));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!asker.is_finished(), "it may listen soon");
        let listener = Listener::bind(made.directory()).unwrap();
        let socket = loop {
            if let Ok(socket) = listener.accept() {
                break socket;
            }
        };
        let asked = socket.receive::<Request>(true).unwrap().unwrap().0;
        assert!(matches!(asked, Request::Greet), "{asked:?}");
        socket.send(&Answer::Done, None).unwrap();
        assert!(asker.join().unwrap().unwrap().is_some());
        // One that hangs up on who was not let in yet.
        let asker = scope.spawn(|| connect(&made));
        std::thread::sleep(Duration::from_millis(100));
        drop(listener);
        std::thread::sleep(Duration::from_millis(100));
        assert!(!asker.is_finished(), "its end is not written yet");
        drop(supervision);
        assert!(asker.join().unwrap().unwrap().is_none());
    });
}
