//! The registry client against Debian's `docker-registry` on the loopback, with a proxy of our own in front of it that breaks
//! what passes, and against what skopeo makes of the same images. A missing tool fails the test that needs it.

mod arriving;
mod auth;
mod download;
mod exports;
mod faults;
mod fixture;
mod judged;
mod memory;
mod proxy;
mod pull;
mod push;
mod refusals;
mod skopeo;
mod small;
mod store;
mod stress;
mod tls;
mod trust;
