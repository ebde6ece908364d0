//! What a container finds in its root, in namespaces of this machine: everything but the image's disk is as in a guest.

#[expect(dead_code, reason = "other tests use more of it")]
mod guest;

use std::path::Path;

use guest::{Guest, sh};
use protocol::{Container, MountFlags, Sysctl, Tmpfs};

/// This machine's own files are the image.
const IMAGE: &str = "/";

#[track_caller]
fn output(container: &Container, script: &str) -> String {
    let end = Guest::run_in(Path::new(IMAGE), container, &sh(script)).finish();
    assert_eq!(String::from_utf8_lossy(&end.stderr), "");
    String::from_utf8(end.stdout).unwrap()
}

fn container() -> Container {
    Container {
        hostname: "box".into(),
        hosts: Some("127.0.0.1 localhost box\n".into()),
        resolv_conf: Some("nameserver 192.0.2.1\n".into()),
        ..Container::default()
    }
}

#[test]
fn the_kernels_file_systems_are_mounted() {
    let mounts = output(&container(), "cut -d' ' -f2-4 /proc/mounts");
    for (line, want) in mounts.lines().zip([
        "/ overlay rw,",
        "/proc proc rw,nosuid,nodev,noexec,",
        "/sys sysfs rw,nosuid,nodev,noexec,",
        "/sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,",
        "/dev tmpfs rw,nosuid,",
        "/dev/pts devpts rw,nosuid,noexec,",
        "/dev/shm tmpfs rw,nosuid,nodev,noexec,",
        "/dev/mqueue mqueue rw,nosuid,nodev,noexec,",
    ]) {
        assert!(line.starts_with(want), "{line} instead of {want}");
    }
}

#[test]
fn devices_are_dockers() {
    let mut wanted = container();
    wanted.confined = true;
    let script = "cd /dev; for file in *; do stat -c '%A %N %t,%T' $file; done";
    assert_eq!(
        output(&wanted, script),
        "lrwxrwxrwx 'fd' -> '/proc/self/fd' 0,0\n\
         crw-rw-rw- 'full' 1,7\n\
         drwxrwxrwt 'mqueue' 0,0\n\
         crw-rw-rw- 'null' 1,3\n\
         lrwxrwxrwx 'ptmx' -> 'pts/ptmx' 0,0\n\
         drwxr-xr-x 'pts' 0,0\n\
         crw-rw-rw- 'random' 1,8\n\
         drwxrwxrwt 'shm' 0,0\n\
         lrwxrwxrwx 'stderr' -> '/proc/self/fd/2' 0,0\n\
         lrwxrwxrwx 'stdin' -> '/proc/self/fd/0' 0,0\n\
         lrwxrwxrwx 'stdout' -> '/proc/self/fd/1' 0,0\n\
         crw-rw-rw- 'tty' 5,0\n\
         crw-rw-rw- 'urandom' 1,9\n\
         crw-rw-rw- 'zero' 1,5\n"
    );
}

#[test]
fn an_unconfined_container_has_the_kernels_own_devices_too() {
    let script = "cd /dev; stat -c '%A %n %t,%T' kmsg fuse net/tun";
    assert_eq!(
        output(&container(), script),
        "crw-r--r-- kmsg 1,b\ncrw-rw-rw- fuse a,e5\ncrw-rw-rw- net/tun a,c8\n"
    );
}

#[test]
fn the_name_and_network_files_are_the_containers() {
    let script = "hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf; stat -c %a /etc/hosts; \
                  cat /sys/class/net/lo/flags; echo $HOSTNAME";
    assert_eq!(
        output(&container(), script),
        "box\nbox\n127.0.0.1 localhost box\nnameserver 192.0.2.1\n644\n0x9\nbox\n"
    );
    assert_ne!(
        std::fs::read("/etc/hostname").unwrap_or_default(),
        b"box\n",
        "this machine keeps its own"
    );
}

#[test]
fn an_image_with_links_and_without_directories_is_furnished() {
    let image = tempfile::tempdir().unwrap();
    let at = |name: &str| image.path().join(name);
    for name in ["bin", "etc", "run", "tmp"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    for link in [
        ("/nowhere/stub", "etc/resolv.conf"),
        ("/bin/sh", "etc/hosts"),
    ] {
        std::os::unix::fs::symlink(link.0, at(link.1)).unwrap();
    }
    std::fs::write(at("tmp/kept"), "content\n").unwrap();
    std::fs::copy("/bin/busybox", at("bin/sh")).unwrap();
    let script = "/bin/sh --help 2>/dev/null; exec 2>&1; for f in /etc/resolv.conf /etc/hosts /tmp/kept; do \
                  while read line; do echo $line; done <$f; done; \
                  while read device at kind rest; do echo $at $kind; done </proc/mounts";
    let end = Guest::run_in(image.path(), &container(), &sh(script)).finish();
    let output = String::from_utf8_lossy(&end.stdout).into_owned();
    assert!(
        output.contains("nameserver 192.0.2.1\n127.0.0.1 localhost box\ncontent\n"),
        "{output}"
    );
    assert!(
        output.contains("\n/run tmpfs\n"),
        "an empty /run is a tmpfs: {output}"
    );
    assert!(
        !output.contains("\n/tmp tmpfs\n"),
        "a used /tmp is the image's: {output}"
    );
}

#[test]
fn kernel_parameters_and_tmpfs_are_set() {
    let mut wanted = container();
    wanted.sysctls = vec![Sysctl {
        name: "net.core.somaxconn".into(),
        value: "777".into(),
    }];
    wanted.shm_size = Some(1 << 20);
    wanted.tmpfs = vec![Tmpfs {
        path: "/new/place".into(),
        options: "size=64k,mode=700".into(),
        flags: MountFlags {
            no_exec: true,
            ..MountFlags::default()
        },
    }];
    let script = "cat /proc/sys/net/core/somaxconn; df -k --output=size /dev/shm /new/place | tail -2 | tr -d ' '; \
                  stat -c %a /new/place; grep -c '/new/place tmpfs rw,noexec,' /proc/mounts";
    assert_eq!(output(&wanted, script), "777\n1024\n64\n700\n1\n");
}

#[test]
fn a_confined_container_cannot_see_or_change_the_kernel() {
    let mut wanted = container();
    wanted.confined = true;
    let script = "for file in /proc/keys /proc/timer_list /proc/interrupts; do test ! -e $file || head -c 1 $file | wc -c; done; \
                  ls /sys/firmware | wc -l; \
                  for file in /proc/sys/kernel/hostname /sys/x /sys/fs/cgroup/x; do (echo x >$file) 2>&1; done";
    let output = output(&wanted, script);
    let hidden = output.lines().take_while(|line| *line == "0").count();
    assert!(hidden >= 2, "{output}");
    assert_eq!(
        output.matches("Read-only file system").count(),
        3,
        "{output}"
    );
}

#[test]
fn a_read_only_root_has_writable_mounts() {
    let mut wanted = container();
    wanted.read_only = true;
    let script = "(echo x >/x) 2>&1; (echo x >/dev/shm/x) && cat /dev/shm/x /etc/hosts";
    let output = output(&wanted, script);
    assert!(output.contains("Read-only file system"), "{output}");
    assert!(
        output.ends_with("\nx\n127.0.0.1 localhost box\n"),
        "{output}"
    );
}

#[test]
fn what_cannot_be_is_refused_with_its_name() {
    let refuse = |change: &dyn Fn(&mut Container)| {
        let mut wanted = container();
        change(&mut wanted);
        Guest::refuse(Path::new(IMAGE), &wanted)
    };
    let sysctl = |name: &str| Sysctl {
        name: name.into(),
        value: "1".into(),
    };
    assert_eq!(
        refuse(&|wanted| wanted.sysctls = vec![sysctl("no.such")]),
        "The guest cannot set the kernel parameter no.such: no such file or directory (ENOENT)\n"
    );
    // Dots are slashes, so that there is no way up.
    assert_eq!(
        refuse(&|wanted| wanted.sysctls = vec![sysctl("kernel/../../x")]),
        "The guest cannot set the kernel parameter kernel/../../x: no such file or directory (ENOENT)\n"
    );
    assert_eq!(
        refuse(&|wanted| wanted.hostname = "x".repeat(65).into()),
        "The guest cannot set the host name: invalid argument (EINVAL)\n"
    );
    let tmpfs = Tmpfs {
        path: "/etc/passwd/x".into(),
        options: "".into(),
        flags: MountFlags::default(),
    };
    assert_eq!(
        refuse(&|wanted| wanted.tmpfs = vec![tmpfs.clone()]),
        "The guest cannot mount a tmpfs on /etc/passwd/x: not a directory (ENOTDIR)\n"
    );
}
