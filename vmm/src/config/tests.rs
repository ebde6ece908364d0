//! Sizes are refused at their borders, also when they arrive as bytes.

use super::*;

#[test]
fn memory_has_bounds() {
    assert_eq!(Memory::mib(31), Err(ConfigError::Memory(31)));
    assert_eq!(Memory::mib(32).map(Memory::bytes), Ok(32 << 20));
    assert_eq!(Memory::mib(1 << 20).map(Memory::bytes), Ok(1 << 40));
    assert_eq!(
        Memory::mib((1 << 20) + 1),
        Err(ConfigError::Memory((1 << 20) + 1))
    );
    assert_eq!(
        ConfigError::Memory(3).to_string(),
        "A virtual machine has 32 MiB to 1048576 MiB of memory, not 3 MiB"
    );
}

#[test]
fn cpus_have_bounds() {
    assert_eq!(Cpus::new(0), Err(ConfigError::Cpus(0)));
    assert_eq!(Cpus::new(16).map(Cpus::count), Ok(16));
    assert_eq!(Cpus::new(17), Err(ConfigError::Cpus(17)));
    assert_eq!(Cpus::new(257), Err(ConfigError::Cpus(257)));
}

#[test]
fn a_received_config_is_checked_again() {
    let config = VmConfig {
        memory: Memory(7),
        cpus: Cpus(99),
        kernel_log: true,
        initcalls: true,
        jail: crate::jail::Mode::Auto,
        network: None,
        root: Root::Image,
        volumes: true,
        timings: true,
    };
    let bytes = postcard::to_allocvec(&config).unwrap();
    assert!(postcard::from_bytes::<VmConfig>(&bytes).is_err());
    let config = VmConfig::default();
    let bytes = postcard::to_allocvec(&config).unwrap();
    assert_eq!(postcard::from_bytes::<VmConfig>(&bytes).unwrap(), config);
}

#[test]
fn what_a_card_is_called_does_not_shape_its_machine() {
    let with = |mac| VmConfig {
        network: Some(network::Settings {
            mac,
            ..network::Settings::default()
        }),
        ..VmConfig::default()
    };
    assert_eq!(with([2; 6]).shape(), with([6; 6]).shape());
    assert_ne!(with([2; 6]).shape(), VmConfig::default().shape());
}
