//! The answer must fit the processor this runs on.

use std::fs::File;

use super::*;

fn kvm() -> OwnedFd {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .expect("machine tests need /dev/kvm")
        .into()
}

#[test]
fn kvm_without_virtualisation_is_found_out_in_time() {
    let start = Instant::now();
    let answer = probe(kvm());
    let took = start.elapsed();
    if has_virtualisation() {
        // An emulated processor that is busy may be as slow as an interpreter; hull asks no probe there.
        assert!(matches!(answer, Ok(()) | Err(Unfit::Slow(_))), "{answer:?}");
    } else {
        let error = answer.unwrap_err();
        assert!(
            matches!(error, Unfit::Emulated(_) | Unfit::Slow(_)),
            "{error:?}"
        );
        assert!(
            error.to_string().contains("interprets kernel code"),
            "{error}"
        );
    }
    // Twenty milliseconds on an idle machine; emulated hosts that share theirs take longer.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn another_device_is_not_kvm() {
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    assert!(matches!(probe(device.into()), Err(Unfit::Version(_))));
}
