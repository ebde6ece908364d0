//! A seccomp profile, as docker writes it, made into filters for the guest's kernel. Refuses to know who installs them.
//!
//! A filter of the library's has one action for what it names. So each action of a profile is a filter of its own, and the kernel
//! takes the strictest of their answers (seccomp(2)): the first lets through all that the profile names, and each other one
//! does its action with what is meant for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use protocol::{Bytes, Privileges};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use serde::Deserialize;
use syscalls::Sysno;

use crate::cli::Capabilities;

/// No profile is longer.
const LONGEST: u64 = 1 << 20;
/// What docker calls the guest's architecture, and what its profiles may call a kernel that is too old for a rule.
const ARCHITECTURE: &str = "amd64";
const KERNEL: (u32, u32) = (6, 12);
/// `EPERM`, which an action `ERRNO` without a number is.
const REFUSED: u32 = 1;

/// What is wrong with a profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    #[error("it is longer than 1 MiB")]
    Long,
    #[error("it is not of docker's form")]
    Form(#[from] serde_json::Error),
    #[error("there is no action {0:?}, or none that a container can have")]
    Action(String),
    #[error("there is no comparison {0:?}")]
    Comparison(String),
    #[error("a rule needs a kernel {0:?}, which is not of the form 4.8")]
    Kernel(String),
    #[error("it makes no filter")]
    Filter(#[from] seccompiler::BackendError),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Vec<Entry>,
}

/// What becomes of some system calls.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: String,
    errno_ret: Option<u32>,
    // Go writes lists without an element as null.
    args: Option<Vec<Argument>>,
    includes: Option<Condition>,
    excludes: Option<Condition>,
}

/// What must be true of an argument.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// When an entry counts.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// System calls, and the rules of which one must hold; none are needed where there is none.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The filters of the profile in a file, for a process with these privileges.
pub(crate) fn filters(file: &Path, privileges: Privileges) -> Result<Vec<Bytes>, ProfileError> {
    let mut text = Vec::new();
    File::open(file)?.take(LONGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(ProfileError::Long);
    }
    compile(&text, privileges)
}

fn compile(text: &[u8], privileges: Privileges) -> Result<Vec<Bytes>, ProfileError> {
    let profile: Profile = serde_json::from_slice(text)?;
    let otherwise = action(&profile.default_action, profile.default_errno_ret)?;
    let mut named = Rules::new();
    let mut others: Vec<(SeccompAction, Rules)> = Vec::new();
    for entry in &profile.syscalls {
        let action = action(&entry.action, entry.errno_ret)?;
        if action == otherwise || !counts(entry, privileges)? {
            continue;
        }
        add(&mut named, entry)?;
        if action == SeccompAction::Allow {
            continue;
        }
        match others.iter_mut().find(|(other, _)| *other == action) {
            Some((_, rules)) => add(rules, entry)?,
            None => {
                let mut rules = Rules::new();
                add(&mut rules, entry)?;
                others.push((action, rules));
            }
        }
    }
    let mut filters = Vec::new();
    if otherwise != SeccompAction::Allow {
        filters.push(program(named, otherwise, SeccompAction::Allow)?);
    }
    for (action, rules) in others {
        filters.push(program(rules, SeccompAction::Allow, action)?);
    }
    Ok(filters)
}

/// Instructions as the kernel takes them (`struct sock_filter`), one after the other.
fn program(
    rules: Rules,
    otherwise: SeccompAction,
    action: SeccompAction,
) -> Result<Bytes, ProfileError> {
    let filter = SeccompFilter::new(rules, otherwise, action, TargetArch::x86_64)?;
    let program = BpfProgram::try_from(filter)?;
    let bytes = program.iter().flat_map(|step| {
        let [c0, c1] = step.code.to_ne_bytes();
        let [k0, k1, k2, k3] = step.k.to_ne_bytes();
        [c0, c1, step.jt, step.jf, k0, k1, k2, k3]
    });
    Ok(Bytes(bytes.collect()))
}

fn action(name: &str, number: Option<u32>) -> Result<SeccompAction, ProfileError> {
    let number = number.unwrap_or(REFUSED);
    Ok(match name {
        "SCMP_ACT_ALLOW" => SeccompAction::Allow,
        "SCMP_ACT_ERRNO" => SeccompAction::Errno(number),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => SeccompAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => SeccompAction::KillProcess,
        "SCMP_ACT_LOG" => SeccompAction::Log,
        "SCMP_ACT_TRACE" => SeccompAction::Trace(number),
        "SCMP_ACT_TRAP" => SeccompAction::Trap,
        _ => return Err(ProfileError::Action(name.to_owned())),
    })
}

/// Whether an entry is for such a container.
fn counts(entry: &Entry, privileges: Privileges) -> Result<bool, ProfileError> {
    let has = |name: &String| {
        let capability = name.parse().ok();
        capability.is_some_and(|Capabilities(bits)| privileges.capabilities & bits == bits)
    };
    let here = |arches: &Vec<String>| arches.iter().any(|arch| arch == ARCHITECTURE);
    if let Some(condition) = &entry.excludes
        && (condition.caps.iter().flatten().any(has)
            || condition.arches.as_ref().is_some_and(here)
            || new_enough(condition)? == Some(true))
    {
        return Ok(false);
    }
    let Some(condition) = &entry.includes else {
        return Ok(true);
    };
    let arches = condition.arches.as_ref().filter(|all| !all.is_empty());
    Ok(condition.caps.iter().flatten().all(has)
        && arches.is_none_or(here)
        && new_enough(condition)? != Some(false))
}

/// Whether the guest's kernel is as new as a condition names one.
fn new_enough(condition: &Condition) -> Result<Option<bool>, ProfileError> {
    let Some(text) = condition
        .min_kernel
        .as_ref()
        .filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    let mut parts = text.split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten(), parts.next()) {
        (Some(major), Some(minor), None) => Ok(Some(KERNEL >= (major, minor))),
        _ => Err(ProfileError::Kernel(text.clone())),
    }
}

/// Adds what an entry says. Names that the guest's kernel does not have are passed over, as docker does.
fn add(rules: &mut Rules, entry: &Entry) -> Result<(), ProfileError> {
    let arguments = entry.args.as_deref().unwrap_or_default();
    for name in entry.names.iter().chain(&entry.name) {
        // Its parser would be 20 KB of comparisons.
        let Some(number) = Sysno::iter().find(|call| call.name() == name) else {
            continue;
        };
        let number = i64::from(number.id());
        if arguments.is_empty() {
            rules.insert(number, Vec::new());
            continue;
        }
        match rules.get_mut(&number) {
            // It is named without arguments.
            Some(all) if all.is_empty() => {}
            Some(all) => all.extend(conditions(arguments)?),
            None => {
                rules.insert(number, conditions(arguments)?);
            }
        }
    }
    Ok(())
}

/// All arguments must be right; where one is named twice, as with docker, one of all the comparisons.
fn conditions(arguments: &[Argument]) -> Result<Vec<SeccompRule>, ProfileError> {
    let compared: Vec<_> = arguments.iter().map(condition).collect::<Result<_, _>>()?;
    let twice = (0..6).any(|index| arguments.iter().filter(|one| one.index == index).count() > 1);
    let rule = |conditions| Ok(SeccompRule::new(conditions)?);
    match twice {
        true => compared.into_iter().map(|one| rule(vec![one])).collect(),
        false => Ok(vec![rule(compared)?]),
    }
}

fn condition(argument: &Argument) -> Result<SeccompCondition, ProfileError> {
    let (comparison, value) = match argument.op.as_str() {
        "SCMP_CMP_NE" => (SeccompCmpOp::Ne, argument.value),
        "SCMP_CMP_LT" => (SeccompCmpOp::Lt, argument.value),
        "SCMP_CMP_LE" => (SeccompCmpOp::Le, argument.value),
        "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, argument.value),
        "SCMP_CMP_GE" => (SeccompCmpOp::Ge, argument.value),
        "SCMP_CMP_GT" => (SeccompCmpOp::Gt, argument.value),
        "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(argument.value), argument.value_two),
        other => return Err(ProfileError::Comparison(other.to_owned())),
    };
    let length = SeccompCmpArgLen::Qword;
    Ok(SeccompCondition::new(
        argument.index,
        length,
        comparison,
        value,
    )?)
}

#[cfg(test)]
mod tests;
