//! What a guest sees is what the layers say: kinds, permissions, owners, times, links, attributes and names, and what one
//! layer does to another.

use tests::fixture::{entries, python};
use tests::vm;

#[test]
fn layers_remove_replace_and_hide() {
    let script = "cd /e; cat removed replaced becomes-file; ls opaque; cat across; stat -c %h original across";
    vm().image(&entries())
        .run(script)
        .prints("back againnewa file nowshown\nshared across layers2\n2\n");
}

#[test]
fn kinds_permissions_and_owners() {
    let script = "cd /e; stat -c '%n %a %u:%g %F' . setuid setgid sticky owned empty symlink pipe char block";
    let expected = "\
        . 750 7:8 directory\n\
        setuid 4755 0:0 regular file\n\
        setgid 2755 0:10 regular file\n\
        sticky 1777 0:0 directory\n\
        owned 640 1234:70000 regular file\n\
        empty 644 0:0 regular empty file\n\
        symlink 777 0:0 symbolic link\n\
        pipe 600 0:0 fifo\n\
        char 666 0:0 character special file\n\
        block 660 0:0 block special file\n";
    vm().image(&entries()).run(script).prints(expected);
    vm().image(&entries())
        .run("stat -c '%t,%T' /e/char /e/block; readlink /e/symlink; stat -c %h /e/hard")
        .prints("1,3\n7,c8\nnowhere/at all\n2\n");
}

#[test]
fn names_times_and_attributes() {
    let script = r#"
import os, struct
os.chdir("/e")
assert os.stat("nanoseconds").st_mtime_ns == 1600000000123456789, os.stat("nanoseconds")
assert os.stat("owned").st_mtime == 1700000000
assert os.getxattr("noted", "user.note") == b"a note"
capability = struct.unpack("<5I", os.getxattr("capable", "security.capability"))
assert capability == (0x02000001, 1 << 13, 0, 0, 0), capability
names = os.listdir(b".")
assert b"not\xff\xfeutf8" in names and b"long" * 60 in names and b'spaces and "quotes"' in names, names
assert open("deep/" + "".join("level%02d/" % n for n in range(30)) + "leaf").read() == "deep"
assert not os.path.lexists("opaque/hidden") and not os.path.lexists(".wh.removed")
print(len(names))
"#;
    vm().image(&python())
        .command(["python3", "-c", script])
        .finish()
        .prints("23\n");
}

#[test]
fn a_file_can_be_changed_and_the_next_container_does_not_see_it() {
    vm().image(&entries())
        .run("cd /e; echo changed >replaced; rm removed; chmod 600 setuid; cat replaced")
        .prints("changed\n");
    vm().image(&entries())
        .run("cd /e; cat replaced; ls removed; stat -c %a setuid")
        .prints("newremoved\n4755\n");
}
