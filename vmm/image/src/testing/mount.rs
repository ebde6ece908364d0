//! Asks the kernel and erofs-utils what they think of an image. Both may be missing: an unprivileged
//! user cannot mount. A test that could not ask says so.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted image, unmounted when dropped.
pub(crate) struct Mounted {
    pub(crate) path: PathBuf,
}

impl Mounted {
    /// Mounts `image` at `path`; none, and a line on standard error, where that is not possible.
    pub(crate) fn new(image: &Path, path: &Path) -> Option<Self> {
        let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !rustix::process::geteuid().is_root() || !filesystems.contains("erofs") {
            eprintln!("SKIPPED: mounting EROFS needs root and a kernel that has it");
            return None;
        }
        std::fs::create_dir_all(path).unwrap();
        let output = Command::new("mount")
            .args(["-t", "erofs", "-o", "loop,ro"])
            .args([image, path])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "mount: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Some(Self {
            path: path.to_owned(),
        })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.path).status().unwrap();
        assert!(status.success(), "umount");
    }
}

/// Runs fsck.erofs, data included.
pub(crate) fn check(image: &Path) {
    match Command::new("fsck.erofs")
        .arg("--extract")
        .arg(image)
        .output()
    {
        Ok(output) => assert!(
            output.status.success(),
            "fsck.erofs: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(_) => eprintln!("SKIPPED: fsck.erofs is not installed"),
    }
}

/// Everything `find` and `stat` can say of a tree, one line a path. Directory sizes differ by nature.
pub(crate) fn describe(root: &Path) -> String {
    let script = r#"
        find . -type d -printf '%p %y %m %U %G - %T@ %n\n' -o -printf '%p %y %m %U %G %s %T@ %n %l\n' | sort
        find . -type f -exec sha256sum {} + | sort
        find . \( -type b -o -type c \) -exec stat -c '%n %t %T' {} + | sort
        getcap -r . 2>/dev/null | sort"#;
    let output = Command::new("sh")
        .arg("-c")
        .arg(script)
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).into_owned()
}
