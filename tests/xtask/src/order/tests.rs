//! What QEMU prints of a processor.

use super::*;

#[test]
fn each_address_of_each_address_space_is_told_once_in_the_order_of_its_first_use() {
    let dump = |address: u64, space: u64| {
        format!(
            "vmrun! 0000000102770000\n\
             RAX=0000000000000001 RBX=0000000000000000 RCX=0000000000000000 RDX=0000000000000000\n\
             RIP={address:016x} RFL=00000246 [---Z-P-] CPL=3 II=0 A20=1 SMM=0 HLT=0\n\
             CR0=80050033 CR2=00007ffff7ffe000 CR3={space:016x} CR4=000006f0\n"
        )
    };
    let trace = [
        (0x7000, 1),
        (0x7010, 1),
        (0x7000, 2),
        (0x7010, 1),
        (0x7000, 1),
    ];
    let trace: String = trace.map(|(address, space)| dump(address, space)).concat();
    let expected = [(0x7000, 1), (0x7010, 1), (0x7000, 2)];
    assert_eq!(steps(trace.as_bytes()).unwrap(), expected);
    assert!(steps(&b"RIP=nothing\n"[..]).is_err());
}
