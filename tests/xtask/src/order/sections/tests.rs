//! A map of a few lines, as lld writes them.

use super::*;

const MAP: &str = "             VMA              LMA     Size Align Out     In      Symbol
             270              270       20     4 .note.ABI-tag
            1000             1000      100     1 .text
            1000             1000       10    16         /target/hull.cgu.0.rcgu.o:(.text._ZN4hull4main17h58c064db39ff4d2eE)
            1000             1000       10     1                 _ZN4hull4main17h58c064db39ff4d2eE
            1010             1010       10    16         /target/hull.cgu.0.rcgu.o:(.text._ZN4hull3vmm3run17h0123456789abcdefE.llvm.77)
            1020             1020       10    16         /target/hull.cgu.0.rcgu.o:(.text.unlikely._RNvXsZ_NtCslNYArtu3iFV_5alloc6stringNtB5_6String.56)
            1030             1030       10    16         /usr/lib/libc.a(malloc.o):(.text)
            1040             1040       10    16         /target/deps/libring-149a70036a60deb6.rlib(4f97f2375d6aa471-sha256-x86_64-elf.o):(.text)
            1050             1050       10    16         /target/hull.cgu.0.rcgu.o:(.text._ZN4core3ptr4drop17h0000000000000001E)
            1060             1060       31    16         /target/hull.cgu.0.rcgu.o:(.text._ZN4core3ptr4drop17h0000000000000002E)
            1091             1091        f    16         /target/hull.cgu.0.rcgu.o:(.text._ZN4hull5never17h0000000000000003E)
            2000             2000       10    16         /target/hull.cgu.0.rcgu.o:(.rodata._ZN4hull17h0000000000000004E)
";

fn used(uses: &[(u64, usize)]) -> Vec<String> {
    let uses: Vec<Use> = uses
        .iter()
        .map(|&(address, process)| Use { address, process })
        .collect();
    let script = script(MAP, &uses).unwrap();
    let lines = script.lines().map(str::trim);
    lines
        .filter(|line| line.starts_with('*'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_one_process_uses_is_together_and_hashes_do_not_matter() {
    let uses = [
        (0x1018, 2),
        (0x1008, 0),
        (0x1034, 0),
        (0x1034, 1),
        (0x1024, 1),
        (0x1044, 0),
    ];
    assert_eq!(
        used(&uses),
        [
            "*(.text._ZN4hull4main17h*E*)",
            "*libring*:*-sha256-x86_64-elf.o(.text)",
            "*libc.a*:malloc.o(.text)",
            "*(.text.unlikely._RNvXsZ_NtCs*_5alloc6stringNtB5_6String*)",
            "*(.text._ZN4hull3vmm3run17h*E*)",
        ]
    );
}

#[test]
fn a_pattern_of_which_little_was_used_is_not_used() {
    let all = "*(.text._ZN4core3ptr4drop17h*E*)";
    let one = "*(.text._ZN4core3ptr4drop17h0000000000000001E)";
    assert_eq!(used(&[(0x1050, 0)]), [one]);
    assert_eq!(used(&[(0x1060, 0)]), [all]);
    assert_eq!(used(&[(0x1060, 0), (0x1050, 0)]), [all]);
}

#[test]
fn what_is_no_code_of_the_program_is_passed_over() {
    assert_eq!(
        used(&[(0x1000, 0), (0x2000, 0), (0x10, 0), (0x9000, 1)]).len(),
        1
    );
    assert!(script(MAP, &[]).is_err());
}
