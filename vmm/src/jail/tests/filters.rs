//! The filters alone: each rule's call is let through, its neighbours and all other calls are refused.

use super::super::table::{Answer, Check, Rule};
use super::*;

/// Calls beyond the newest that any Linux has.
const CALLS: u32 = 600;
/// `uretprobe` and `uprobe`: newer kernels let them past every filter and end whoever calls them outside a probe (SIGILL).
const PROBES: [u32; 2] = [335, 336];

/// Makes a call in a process whose thread is confined to `role`, without any other layer.
fn filtered(role: Role, number: u32, arguments: [u64; 6]) -> Outcome {
    Outcome::of(in_child(|| {
        layers::no_new_privileges().unwrap();
        filter::apply(role).unwrap();
        call(number, arguments)
    }))
}

/// The same with the process's own number where the table wants it.
fn own(mut arguments: [u64; 6], rule: &Rule) -> [u64; 6] {
    for check in rule.checks {
        if let Check::Own(place) = check {
            *at(&mut arguments, *place) = u64::from(
                rustix::process::getpid()
                    .as_raw_nonzero()
                    .get()
                    .cast_unsigned(),
            );
        }
    }
    arguments
}

fn at(arguments: &mut [u64; 6], place: u32) -> &mut u64 {
    arguments.get_mut(usize::try_from(place).unwrap()).unwrap()
}

/// Arguments that pass all checks and are good for nothing else.
fn legal(rule: &Rule) -> [u64; 6] {
    let mut arguments = [NOTHING; 6];
    for check in rule.checks {
        match *check {
            Check::OneOf(place, values) => *at(&mut arguments, place) = u64::from(values[0]),
            Check::Without(place, _) | Check::Null(place) | Check::Own(place) => {
                *at(&mut arguments, place) = 0;
            }
        }
    }
    arguments
}

/// Arguments that pass all checks but this one.
fn illegal(rule: &Rule, check: &Check) -> Vec<[u64; 6]> {
    let with = |place: u32, value: u64| {
        let mut arguments = legal(rule);
        *at(&mut arguments, place) = value;
        arguments
    };
    match *check {
        Check::OneOf(place, values) => {
            let inside = |value: &u64| values.iter().any(|known| u64::from(*known) == *value);
            let near = values
                .iter()
                .flat_map(|v| [v.wrapping_sub(1), v + 1, v ^ 0x8000_0000]);
            let near = near.map(u64::from).chain([NOTHING]);
            near.filter(|value| !inside(value))
                .map(|value| with(place, value))
                .collect()
        }
        Check::Without(place, bits) => vec![with(place, bits.into()), with(place, NOTHING)],
        Check::Null(place) => vec![with(place, 1), with(place, 1 << 32), with(place, NOTHING)],
        Check::Own(place) => vec![with(place, 0), with(place, 1), with(place, NOTHING)],
    }
}

#[test]
fn jail_every_rule_lets_its_call_through() {
    // A jump into a stack frame that is not there ends the process in another way; every kick of a vCPU is its test.
    let special = [u32::try_from(libc::SYS_rt_sigreturn).unwrap()];
    for role in ROLES {
        for rule in role.rules().filter(|rule| !special.contains(&rule.call)) {
            let outcome = Outcome::of(in_child(|| {
                layers::no_new_privileges().unwrap();
                filter::apply(role).unwrap();
                call(rule.call, own(legal(rule), rule))
            }));
            match rule.answer {
                Answer::Yes => assert_ne!(outcome, Outcome::Killed, "{role:?} {rule:?}"),
                Answer::Error(number) => {
                    assert_eq!(
                        outcome,
                        Outcome::Failed(number.cast_signed()),
                        "{role:?} {rule:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn jail_every_rule_refuses_the_neighbours_of_its_call() {
    let mut count = 0;
    for role in ROLES {
        for rule in role.rules() {
            for check in rule.checks {
                for arguments in illegal(rule, check) {
                    // All the other checks pass, the process's number included.
                    let outcome = Outcome::of(in_child(|| {
                        layers::no_new_privileges().unwrap();
                        filter::apply(role).unwrap();
                        let arguments = match check {
                            Check::Own(_) => arguments,
                            _ => own(arguments, rule),
                        };
                        call(rule.call, arguments)
                    }));
                    assert_eq!(outcome, Outcome::Killed, "{role:?} {rule:?} {arguments:x?}");
                    count += 1;
                }
            }
        }
    }
    assert!(count >= 40, "{count}");
}

#[test]
fn jail_every_other_call_kills() {
    for role in ROLES {
        let known: BTreeSet<u32> = role.rules().map(|rule| rule.call).collect();
        assert_eq!(known.len(), role.rules().count(), "a call has one rule");
        for number in
            (0..CALLS).filter(|number| !known.contains(number) && !PROBES.contains(number))
        {
            assert_eq!(
                filtered(role, number, [NOTHING; 6]),
                Outcome::Killed,
                "{role:?} {number}"
            );
        }
        // The same numbers in the x32 ABI.
        for number in [0, 1, 16, 59].map(|number| number | 0x4000_0000) {
            assert_eq!(
                filtered(role, number, [NOTHING; 6]),
                Outcome::Killed,
                "{number:#x}"
            );
        }
    }
}
