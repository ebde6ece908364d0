//! `-it` lends the user's terminal to the command, and gives it back in order whatever happens.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tests::Container;

/// A shell in a container at one end of a terminal, the test at the other.
struct Session {
    hull: Child,
    keys: File,
    near: OwnedFd,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Session {
    fn start() -> Self {
        Self::of(&["run", "-it", &tests::fixture::busybox(), "sh"])
    }

    /// This hull, on a terminal.
    fn of(words: &[&str]) -> Self {
        let far = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&far).unwrap();
        unlockpt(&far).unwrap();
        let near = ioctl_tiocgptpeer(
            &far,
            OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
        )
        .unwrap();
        resize(&far, 33, 101);
        let stream = || Stdio::from(near.try_clone().unwrap());
        let hull = Command::new(tests::run::program())
            .args(words)
            .env("HULL_START", "cold")
            .env("HULL_ROOT", tests::run::store())
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .unwrap();
        let keys = File::from(far);
        let mut screen_of = keys.try_clone().unwrap();
        let (sender, screen) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen_of.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let seen = String::new();
        Self {
            hull,
            keys,
            near,
            screen,
            seen,
        }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen has shown this since the last call.
    fn shows(&mut self, text: &str) {
        let end = Instant::now() + tests::PATIENCE;
        while !self.seen.contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            let bytes = self.screen.recv_timeout(left);
            let bytes = bytes.unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.seen));
            self.seen += &String::from_utf8_lossy(&bytes);
        }
        self.seen.clear();
    }

    fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.near).unwrap().local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    /// Waits until the terminal is raw: what was typed before is lost with the mode before.
    fn is_lent(&self) {
        let end = Instant::now() + tests::PATIENCE;
        while self.is_cooked() {
            assert!(Instant::now() < end, "the terminal is not lent");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.hull), signal).unwrap();
    }
}

fn resize(terminal: impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}

#[test]
fn keys_windows_and_the_exit_code_pass() {
    let mut session = Session::start();
    session.shows("# ");
    assert!(!session.is_cooked(), "keys are not passed on raw");
    session.types("tty; echo $TERM; stty size\n");
    session.shows("/dev/pts/0\r\nxterm\r\n33 101\r\n");
    resize(&session.keys, 40, 90);
    session.send(Signal::WINCH);
    session.types("until stty size | grep '^40 90$'; do :; done\n");
    session.shows("\n40 90\r\n");
    // Ctrl-C is a key: it ends what is in the foreground there, not hull here. What says that it
    // is busy is in the foreground already; a shell that says it may not have lent the terminal.
    session.types("sh -c 'echo busy $((6 * 7)); exec sleep 1000'\n");
    session.shows("busy 42\r\n");
    session.types("\u{3}");
    session.shows("# ");
    session.types("echo ended by $?\n");
    session.shows("ended by 130\r\n");
    session.types("exit 5\n");
    assert_eq!(session.hull.wait().unwrap().code(), Some(5));
    assert!(session.is_cooked(), "the terminal is left raw");
}

#[test]
fn a_shell_controls_its_jobs() {
    let mut session = Session::start();
    session.shows("# ");
    session.types("sh -c 'echo busy $((6 * 7)); exec sleep 1000'\n");
    session.shows("busy 42\r\n");
    session.types("\u{1a}");
    session.shows("Stopped");
    session.types("bg; jobs\n");
    session.shows("Running");
    session.types("fg\n");
    session.shows("exec sleep 1000\"\r\n");
    session.types("\u{3}");
    session.shows("# ");
    session.types("echo ended by $?\n");
    session.shows("ended by 130\r\n");
    session.types("exit\n");
    session.hull.wait().unwrap();
}

#[test]
fn programs_that_draw_the_whole_screen_work() {
    let image = tests::fixture::servers();
    let options = [
        "run",
        "-it",
        "--rm",
        "--memory=512m",
        &image,
        "bash",
        "--norc",
    ];
    let mut session = Session::of(&options);
    session.shows("# ");
    // The window's last line is where they say what they are doing.
    session.types("vi /tmp/letter\n");
    session.shows("33;1H");
    session.types("ione\rtwo\u{1b}:s/two/three/\r:wq\r");
    session.shows("written");
    session.types("cat /tmp/letter; seq 1000 >/tmp/long; less /tmp/long\n");
    session.shows("one\r\nthree\r\n");
    session.shows("/tmp/long");
    session.types("G");
    session.shows("1000\r\n");
    session.types("?^500$\n");
    session.shows("500");
    session.types("q");
    session.shows("# ");
    session.types("top -d 1\n");
    session.shows("COMMAND");
    session.types("q");
    session.shows("# ");
    session.types("exit 3\n");
    assert_eq!(session.hull.wait().unwrap().code(), Some(3));
}

#[test]
fn detach_keys_leave_the_command_alone() {
    let _it = Container("left-alone");
    let image = tests::fixture::busybox();
    let keys = "--detach-keys=ctrl-x,d";
    let mut session = Session::of(&["run", "-it", keys, "--name=left-alone", &image, "sh"]);
    session.shows("# ");
    // Others' keys are the command's.
    session.types("echo \u{10}\u{11}$((6 * 7))\n");
    session.shows("42\r\n");
    session.types("\u{18}d");
    assert_eq!(session.hull.wait().unwrap().code(), Some(0));
    assert!(session.is_cooked(), "the terminal is left raw");
    let mut session = Session::of(&["attach", "left-alone"]);
    session.is_lent();
    session.types("echo again $((6 * 7))\n");
    session.shows("again 42\r\n");
    session.types("\u{10}\u{11}");
    assert_eq!(session.hull.wait().unwrap().code(), Some(0));
    let mut session = Session::of(&["exec", "-it", keys, "left-alone", "sh"]);
    session.shows("# ");
    session.types("\u{18}d");
    assert_eq!(session.hull.wait().unwrap().code(), Some(0));
    let mut session = Session::of(&["attach", "--detach-keys", "", "left-alone"]);
    session.is_lent();
    session.types("exit 5\n");
    assert_eq!(session.hull.wait().unwrap().code(), Some(5));
    let wrong = tests::hull(["attach", "--detach-keys=ctrl-1", "left-alone"]).finish();
    wrong.exits(125).complains("ctrl-1");
}

#[test]
fn a_killed_hull_leaves_the_terminal_in_order() {
    let mut session = Session::start();
    session.shows("# ");
    assert!(!session.is_cooked());
    session.send(Signal::KILL);
    session.hull.wait().unwrap();
    let end = Instant::now() + tests::PATIENCE;
    while !session.is_cooked() {
        assert!(Instant::now() < end, "the terminal is left raw");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn without_a_terminal_there_is_none_to_lend() {
    let outcome = tests::vm().option("-it").command(["true"]).finish();
    outcome.exits(125).complains("not a terminal");
}
