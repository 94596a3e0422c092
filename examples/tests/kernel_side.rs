//! The kernel's side of a device.

#![cfg(target_os = "linux")]

mod support;

use tidewire_netdev::linux::{Tun, TunConfig, unshare_network};

use tidewire::ip::Cidr;
use tidewire_examples::kernel::configure;

fn cidr(text: &str) -> Cidr {
    text.parse().expect(text)
}

/// On a thread in a network namespace of its own: the machine's interfaces stay as they are.
fn configures_an_interface() -> Result<(), String> {
    unshare_network().map_err(|error| format!("no network namespace without root: {error}"))?;
    let tun = Tun::open(TunConfig::default()).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let addresses = [cidr("10.7.0.1/24"), cidr("fd07::1/64")];
        for _again in 0..2 {
            let configured = configure(tun.name(), &addresses, Some(1400), true).await;
            configured.expect("configured, the second time too");
        }
        for address in addresses {
            let bound = tokio::net::UdpSocket::bind((address.address(), 0)).await;
            bound.expect("the kernel owns the address");
        }
        let missing = configure("no-such-link", &addresses, None, true).await;
        let error = missing.expect_err("no such interface");
        assert!(error.to_string().contains("no-such-link"), "{error}");
    });
    Ok(())
}

#[test]
fn the_kernels_side_is_configured_and_may_be_so_already() {
    support::run_or_skip(configures_an_interface);
}
