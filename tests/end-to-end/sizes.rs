//! The files that are installed stay small: hull at most 6,000,000 bytes, each kernel at most 8,000,000.

use tests::run::program;

#[test]
fn what_is_installed_stays_small() {
    let program = program();
    let library = program.ancestors().nth(2).unwrap().join("lib/hull");
    let most = [
        (program, 6_000_000),
        (library.join("vmlinux"), 8_000_000),
        (library.join("vmlinux-smp"), 8_000_000),
    ];
    for (file, most) in most {
        let bytes = std::fs::metadata(&file).unwrap().len();
        assert!(bytes <= most, "{}: {bytes} bytes", file.display());
    }
}
