//! What the kernel would do under a profile: its filters are run here, as BPF.

use protocol::Privileges;

use super::{ProfileError, compile};

const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
const KILL: u32 = 0;
const ERRNO: u32 = 0x0005_0000;
/// `AUDIT_ARCH_X86_64`.
const X86_64: u32 = 0xc000_003e;

/// What one filter answers (`Documentation/networking/filter.rst`).
fn answer(program: &[u8], data: &[u8]) -> u32 {
    let steps: Vec<_> = program.chunks_exact(8).collect();
    let (mut at, mut value) = (0, 0_u32);
    loop {
        let step = steps[at];
        let code = u16::from_ne_bytes([step[0], step[1]]);
        let constant = u32::from_ne_bytes(step[4..].try_into().unwrap());
        let jump = |holds: bool| usize::from(if holds { step[2] } else { step[3] });
        at += 1;
        match code {
            0x20 => {
                let place = usize::try_from(constant).unwrap();
                value = u32::from_ne_bytes(data[place..place + 4].try_into().unwrap());
            }
            0x05 => at += usize::try_from(constant).unwrap(),
            0x15 => at += jump(value == constant),
            0x25 => at += jump(value > constant),
            0x35 => at += jump(value >= constant),
            0x54 => value &= constant,
            0x06 => return constant,
            _ => panic!("{code:#x}"),
        }
    }
}

/// What the kernel makes of a call under a profile: the strictest answer, actions with lower numbers first.
fn outcome(profile: &str, privileges: Privileges, call: i64, arguments: [u64; 2]) -> u32 {
    let mut data = Vec::new();
    data.extend(u32::try_from(call).unwrap().to_ne_bytes());
    data.extend(X86_64.to_ne_bytes());
    data.extend(0_u64.to_ne_bytes());
    for argument in arguments.into_iter().chain([0; 4]) {
        data.extend(argument.to_ne_bytes());
    }
    let filters = compile(profile.as_bytes(), privileges).unwrap();
    let answers = filters.iter().map(|filter| answer(filter, &data));
    answers
        .min_by_key(|answer| answer & 0xffff_0000)
        .unwrap_or(ALLOW)
}

#[test]
fn what_is_named_is_allowed_and_the_rest_is_not() {
    let profile = r#"{ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "archMap": [ { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"] } ],
        "syscalls": [
            { "names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW", "args": null, "includes": {} },
            { "name": "getpid", "action": "SCMP_ACT_LOG" },
            { "names": ["kill"], "action": "SCMP_ACT_KILL_THREAD" },
            { "names": ["uname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW",
              "args": [ { "index": 0, "value": 8, "op": "SCMP_CMP_EQ" } ] },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW",
              "args": [ { "index": 0, "value": 4294967295, "op": "SCMP_CMP_EQ" } ] } ] }"#;
    let outcome = |call, first| outcome(profile, Privileges::DOCKER, call, [first, 0]);
    assert_eq!(outcome(libc::SYS_read, 7), ALLOW);
    assert_eq!(outcome(libc::SYS_mkdir, 0), ERRNO | 38);
    assert_eq!(outcome(libc::SYS_getpid, 0), LOG);
    assert_eq!(outcome(libc::SYS_kill, 0), KILL);
    assert_eq!(outcome(libc::SYS_uname, 0), ERRNO | 13);
    for (first, expected) in [
        (8, ALLOW),
        (0xffff_ffff, ALLOW),
        (9, ERRNO | 38),
        (1 << 32 | 8, ERRNO | 38),
    ] {
        assert_eq!(outcome(libc::SYS_personality, first), expected, "{first}");
    }
}

#[test]
fn arguments_are_compared_as_said() {
    for (op, value, two, right, wrong) in [
        ("NE", 5, 0, 6, 5),
        ("LT", 5, 0, 4, 5),
        ("LE", 5, 0, 5, 6),
        ("EQ", 1_u64 << 40, 0, 1_u64 << 40, 0),
        ("GE", 5, 0, 1 << 40, 4),
        ("GT", 5, 0, 6, 5),
        ("MASKED_EQ", 0x7e02_0000, 0, 0x11, 0x0002_0011),
    ] {
        let profile = format!(
            r#"{{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [ {{ "names": ["clone"], "action": "SCMP_ACT_ERRNO",
                "args": [ {{ "index": 1, "value": {value}, "valueTwo": {two}, "op": "SCMP_CMP_{op}" }} ] }} ] }}"#
        );
        let outcome = |value| outcome(&profile, Privileges::DOCKER, libc::SYS_clone, [0, value]);
        assert_eq!((outcome(right), outcome(wrong)), (ERRNO | 1, ALLOW), "{op}");
    }
    let twice = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [ { "names": ["socket"], "action": "SCMP_ACT_ERRNO",
        "args": [ { "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 0, "value": 2, "op": "SCMP_CMP_EQ" } ] } ] }"#;
    let outcome = |value| outcome(twice, Privileges::DOCKER, libc::SYS_socket, [value, 0]);
    assert_eq!([1, 2, 3].map(outcome), [ERRNO | 1, ERRNO | 1, ALLOW]);
}

#[test]
fn entries_are_for_some_containers() {
    let says = |conditions: &str, privileges| {
        let profile = format!(
            r#"{{ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                {{ "names": ["mount"], "action": "SCMP_ACT_ALLOW", {conditions} }} ] }}"#
        );
        outcome(&profile, privileges, libc::SYS_mount, [0; 2]) == ALLOW
    };
    let admin = r#""includes": { "caps": ["CAP_SYS_ADMIN"] }"#;
    assert!(says(admin, Privileges::FULL) && !says(admin, Privileges::DOCKER));
    let no_admin = r#""excludes": { "caps": ["CAP_SYS_ADMIN"] }"#;
    assert!(!says(no_admin, Privileges::FULL) && says(no_admin, Privileges::DOCKER));
    for (conditions, counts) in [
        (r#""includes": { "arches": ["arm64"] }"#, false),
        (r#""includes": { "arches": ["amd64", "x32"] }"#, true),
        (r#""excludes": { "arches": ["amd64"] }"#, false),
        (r#""includes": { "minKernel": "4.8" }"#, true),
        (r#""includes": { "minKernel": "7.0" }"#, false),
        (r#""excludes": { "minKernel": "7.0" }"#, true),
    ] {
        assert_eq!(says(conditions, Privileges::DOCKER), counts, "{conditions}");
    }
}

#[test]
fn what_is_no_profile_is_refused() {
    let wrong = |profile: &str| compile(profile.as_bytes(), Privileges::DOCKER).unwrap_err();
    assert!(matches!(wrong("{}"), ProfileError::Form(_)));
    assert!(matches!(
        wrong(r#"{ "defaultAction": "SCMP_ACT_NOTIFY" }"#),
        ProfileError::Action(_)
    ));
    let entry = |rest: &str| {
        wrong(&format!(
            r#"{{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [ {{ "names": ["read"], "action": "SCMP_ACT_TRAP", {rest} }} ] }}"#
        ))
    };
    let argument = |index: u8, op: &str| {
        entry(&format!(
            r#""args": [ {{ "index": {index}, "value": 1, "op": "{op}" }} ]"#
        ))
    };
    assert!(matches!(
        argument(0, "SCMP_CMP_ALMOST"),
        ProfileError::Comparison(_)
    ));
    assert!(matches!(
        argument(6, "SCMP_CMP_EQ"),
        ProfileError::Filter(_)
    ));
    assert!(matches!(
        entry(r#""includes": { "minKernel": "new" }"#),
        ProfileError::Kernel(_)
    ));
}
