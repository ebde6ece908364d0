//! The flags that shape the inside of a container, for every verb that makes one. What is meant by them together is
//! `plan::inside`'s business; each value is understood here, so that clap can say which flag is wrong.

use std::net::IpAddr;

use super::Size;

mod capability;
mod names;
mod security;
mod tmpfs;
mod ulimit;
mod volume;

pub(crate) use capability::Capabilities;
pub(crate) use names::{Host, Parameter};
pub(crate) use security::Security;
pub(crate) use tmpfs::{Mount, Tmpfs};
pub(crate) use ulimit::Ulimit;
pub(crate) use volume::{Source, Volume, is_name};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Inside the container")]
pub(crate) struct Inside {
    /// All capabilities, nothing hidden or read-only in /proc and /sys, and the devices /dev/fuse,
    /// /dev/kmsg and /dev/net/tun. The command gets its own kernel to itself, nothing of the host
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub(crate) privileged: bool,
    /// Add a capability to docker's 14, by its name with or without CAP_; ALL adds all
    #[arg(long, value_name = "NAME")]
    pub(crate) cap_add: Vec<Capabilities>,
    /// Take a capability away; ALL leaves what --cap-add names
    #[arg(long, value_name = "NAME")]
    pub(crate) cap_drop: Vec<Capabilities>,
    /// no-new-privileges[=BOOL]: executing a program never adds rights. seccomp=FILE: the profile in the file, of docker's
    /// form, is in force. seccomp=unconfined, apparmor=unconfined and label=disable are so without saying
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<Security>,
    /// Make the root file system read-only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub(crate) read_only: bool,
    /// Mount a file system in memory; options as size=64m,mode=700,uid=N,gid=N,ro,exec,suid,dev
    /// [default options: noexec,nosuid,nodev]
    #[arg(long, value_name = "DIR[:OPTIONS]")]
    pub(crate) tmpfs: Vec<Tmpfs>,
    /// Have a directory or file of the host in the container, or a volume; OPTIONS are ro and nocopy
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    pub(crate) volume: Vec<Volume>,
    /// The same in words: type=bind|volume|tmpfs,source=PATH|NAME,target=DIR[,readonly], also volume-nocopy,
    /// tmpfs-size=SIZE, tmpfs-mode=MODE
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub(crate) mount: Vec<Mount>,
    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<Size>,
    /// Limit a resource of the command, as nofile=1024:2048; -1 is no limit
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<Ulimit>,
    /// How many processes and threads there may be at once; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Set a parameter of the container's kernel, any of /proc/sys
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) sysctl: Vec<Parameter>,
    /// Put the user into a further group, by name or number
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Add a line to /etc/hosts. The address host-gateway is one that leads to the host's own ports, those of its
    /// loopback
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) add_host: Vec<Host>,
    /// Name server to ask instead of the host's
    #[arg(long, value_name = "IP")]
    pub(crate) dns: Vec<IpAddr>,
    /// Domain in /etc/resolv.conf to look short names up in
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// Option in /etc/resolv.conf, see resolv.conf(5)
    #[arg(long, value_name = "OPTION", alias = "dns-opt")]
    pub(crate) dns_option: Vec<String>,
    /// NIS domain name, which is also the host name's domain in /etc/hosts
    #[arg(long, value_name = "NAME")]
    pub(crate) domainname: Option<String>,
    /// Have an init that reaps orphans and passes signals. It is always so: hull's own is process 1
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub(crate) init: bool,
}

#[cfg(test)]
mod tests;
