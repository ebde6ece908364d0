//! Has hull linked again when what `cargo xtask build` tells the linker has changed.

fn main() {
    println!("cargo::rerun-if-changed=hull.ld");
    println!("cargo::rerun-if-changed=start.ld");
}
