//! Links the binary without a C library and its start files. Knows nothing of the other targets.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for argument in [
        "-nostartfiles",
        "-nodefaultlibs",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,noseparate-code",
    ] {
        println!("cargo::rustc-link-arg-bin=guest-init={argument}");
    }
}
