//! What runs, as whom, where and with which environment: as the image says, unless the command line says otherwise.

use tests::fixture::{configured, scratch};
use tests::vm;

#[test]
fn the_image_decides_where_nothing_is_said() {
    vm().image(&configured())
        .finish()
        .prints("entry and command\n");
    let script = "echo $GREETING; id -un; id -Gn; pwd; echo $HOME";
    let outcome = vm()
        .image(&configured())
        .option("--entrypoint=sh")
        .command(["-c", script])
        .finish();
    outcome.prints("from the image\nuser\nuser wheel\n/made/by hull\n/home/user\n");
}

#[test]
fn arguments_replace_the_images_command_only() {
    vm().image(&configured())
        .command(["more", "words"])
        .finish()
        .prints("entry more words\n");
}

#[test]
fn environment_comes_from_flags_files_and_the_launcher() {
    let directory = scratch("env").unwrap();
    let file = directory.join("file");
    std::fs::write(
        &file,
        "# a comment\n\nFILE=from the file\nBOTH=file\nTAKEN\n",
    )
    .unwrap();
    let outcome = vm()
        .host_env("TAKEN", "from the launcher")
        .option("--env-file")
        .option(&file)
        .options(["-e", "BOTH=flag", "-e", "EMPTY="])
        .run("echo \"$FILE/$BOTH/$TAKEN/${EMPTY-unset}/${HULL_ROOT-unset}\"");
    outcome.prints("from the file/flag/from the launcher//unset\n");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn user_by_name_and_number() {
    vm().options(["-u", "user"])
        .run("id -u; id -g; id -G")
        .prints("1000\n1000\n1000 10\n");
    vm().options(["-u", "1234:10"])
        .run("id -u; id -g")
        .prints("1234\n10\n");
    vm().options(["-u", "0"]).run("id -un").prints("root\n");
    vm().options(["-u", "nobody-by-that-name"])
        .run("true")
        .complains("nobody-by-that-name");
}

#[test]
fn working_directory_is_made_when_missing() {
    vm().options(["-w", "/a/new/place"])
        .run("pwd")
        .prints("/a/new/place\n");
    vm().options(["-w", "/etc"])
        .run("ls passwd")
        .prints("passwd\n");
}

#[test]
fn entrypoint_and_hostname() {
    vm().options(["--entrypoint", "printf"])
        .command(["%s|", "a", "b c"])
        .finish()
        .prints("a|b c|");
    vm().options(["--hostname", "some-name"])
        .run("hostname; grep -c some-name /etc/hosts")
        .prints("some-name\n1\n");
}

#[test]
fn a_container_finds_what_linux_programs_expect() {
    let script = "
        for path in /proc/self/status /sys/kernel /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty \\
            /dev/ptmx /dev/fd /dev/stdin /dev/stdout /dev/stderr; do [ -e $path ] || echo no $path; done
        for at in /proc /sys /dev /dev/pts /dev/shm /sys/fs/cgroup; do grep -q \" $at \" /proc/mounts || echo no $at; done
        touch /tmp/a /run/a /dev/shm/a /a && ping -c 1 127.0.0.1 >/dev/null && echo all there";
    vm().run(script).prints("all there\n");
}
