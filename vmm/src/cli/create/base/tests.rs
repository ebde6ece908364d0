//! Directories as roots, as they are typed.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Typed {
    #[command(flatten)]
    args: Args,
}

fn typed(words: &[&str]) -> Args {
    Typed::try_parse_from([&["run"], words].concat())
        .unwrap()
        .args
}

fn found(words: &[&str]) -> Result<Base, Failure> {
    directory(&typed(&[&["--rootfs"], words].concat()), &Policy::default())
}

#[test]
fn a_directory_is_written_in_place_unless_it_is_said_otherwise() {
    let kind = |words: &[&str]| typed(words).root();
    assert_eq!(kind(&["image"]), Root::Image);
    assert_eq!(kind(&["--read-only", "image:O"]), Root::Image);
    assert_eq!(kind(&["--rootfs", "dir"]), Root::Direct);
    assert_eq!(kind(&["--rootfs", "dir:O", "true"]), Root::Lower);
    assert_eq!(kind(&["--rootfs", "--read-only", "dir"]), Root::Lower);
    // Its command's words are its own.
    let args = typed(&["--rootfs", "dir", "ls", "--rootfs", "-l"]);
    assert_eq!(args.command, ["ls", "--rootfs", "-l"]);
}

#[test]
fn only_a_directory_with_something_in_it_is_one() {
    let host = tempfile::tempdir().unwrap();
    let path = host.path().canonicalize().unwrap();
    let text = path.to_str().unwrap();
    let empty = found(&[text]).err().unwrap();
    assert_eq!(empty.exit_code(), NOT_FOUND);
    std::fs::write(path.join("file"), "").unwrap();
    std::os::unix::fs::symlink(".", path.join("link")).unwrap();
    for (end, read_only) in [("", false), (":O", true), ("/link", false)] {
        let base = found(&[&format!("{text}{end}")]).unwrap();
        let directory = base.directory.unwrap();
        assert_eq!(
            (directory.path, directory.read_only),
            (path.clone(), read_only)
        );
        assert!(base.id.is_empty() && base.file.is_none());
    }
    let line = |end: &str| found(&[&format!("{text}/{end}")]).err().unwrap().line();
    assert!(line("none").contains("no directory"), "{}", line("none"));
    assert!(line("file").contains("not a directory"), "{}", line("file"));
}
