//! The flags of every program that opens a device.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use tidewire::ip::Cidr;
use tidewire_netdev::MacAddress;

/// Which device to open, and the stack's place on it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Device and stack")]
pub struct StackFlags {
    /// TUN interface: attached to if it exists, created otherwise (needs root)
    #[arg(long, value_name = "NAME", group = "device")]
    pub tun: Option<String>,

    /// TAP interface: attached to if it exists, created otherwise (needs root); the stack is the station at its other end
    #[arg(long, value_name = "NAME", group = "device")]
    pub tap: Option<String>,

    /// Ethernet interface to share through AF_PACKET, as one more station on its link (needs CAP_NET_RAW); give the stack
    /// addresses that the kernel does not have
    #[arg(long, value_name = "IFACE", group = "device")]
    pub packet: Option<String>,

    /// Queues of the device, each with a driver of its own; more than one is for several worker threads. An existing TUN
    /// or TAP must have been made with multi_queue
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub queues: usize,

    /// Address of the stack with its prefix, for instance 10.7.0.2/24; may be repeated
    #[arg(long = "address", value_name = "CIDR")]
    pub addresses: Vec<Cidr>,

    /// Hardware address of the stack on Ethernet, by which a RARP or DHCP server may know it [default: the interface's with
    /// --packet, another each time with --tap]
    #[arg(long, value_name = "MAC", conflicts_with = "tun")]
    pub hardware_address: Option<MacAddress>,

    /// Get an IPv4 address and the default route from a DHCP server; on Ethernet
    #[arg(long)]
    pub dhcp: bool,

    /// Get IPv6 addresses and default routers from routers' advertisements; on Ethernet
    #[arg(long)]
    pub slaac: bool,

    /// Get an IPv4 address from a RARP server; on Ethernet. Its network is that of its class, or --rarp-prefix
    #[arg(long)]
    pub rarp: bool,

    /// Bits of the network's prefix for --rarp
    #[arg(long, value_name = "N", requires = "rarp", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub rarp_prefix: Option<u8>,

    /// Router to everything that is not on the link; one for each IP version
    #[arg(long = "gateway", value_name = "IP")]
    pub gateways: Vec<IpAddr>,

    /// MTU of the device in octets [default: what it has]
    #[arg(long, value_name = "N")]
    pub mtu: Option<usize>,

    /// Address of the kernel on the device, which is brought up; may be repeated
    #[arg(long = "kernel-address", value_name = "CIDR")]
    pub kernel_addresses: Vec<Cidr>,

    /// Let the device do no checksums and no segmentation
    #[arg(long)]
    pub no_offload: bool,

    /// Record the device's packets in a pcapng file
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,

    /// Worker threads of the runtime; 0 runs everything on one thread
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub workers: usize,

    /// One JSON object a line on stdout
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use clap::error::ErrorKind;

    #[derive(Parser, Debug)]
    struct Flags {
        #[command(flatten)]
        stack: StackFlags,
    }

    fn parse(line: &str) -> Result<StackFlags, clap::Error> {
        Flags::try_parse_from(line.split_whitespace()).map(|flags| flags.stack)
    }

    #[test]
    fn repeated_addresses_keep_their_order() {
        let flags = parse(
            "http --tun tw0 --address 10.7.0.2/24 --address fd07::2/64 --gateway 10.7.0.1 --gateway fd07::1 \
             --kernel-address 10.7.0.1/24 --mtu 9000 --no-offload --pcap a.pcapng --workers 2 --queues 2 --slaac --json",
        )
        .expect("valid");
        let text: Vec<String> = flags.addresses.iter().map(Cidr::to_string).collect();
        assert_eq!(text, ["10.7.0.2/24", "fd07::2/64"]);
        assert_eq!(flags.gateways.len(), 2);
        assert_eq!(flags.kernel_addresses[0].prefix_len(), 24);
        assert_eq!((flags.mtu, flags.workers), (Some(9000), 2));
        assert_eq!(flags.queues, 2);
        assert!(flags.no_offload && flags.json && flags.slaac && !flags.dhcp);
    }

    #[test]
    fn usage_errors_are_found_before_anything_is_opened() {
        for (line, kind) in [
            ("http --tun a --tap b", ErrorKind::ArgumentConflict),
            ("http --tun a --packet b", ErrorKind::ArgumentConflict),
            ("http --address 10.7.0.2/33", ErrorKind::ValueValidation),
            ("http --gateway ten", ErrorKind::ValueValidation),
            ("http --tap a --packet b", ErrorKind::ArgumentConflict),
            ("http --queues two", ErrorKind::ValueValidation),
            (
                "http --tap a --rarp-prefix 24",
                ErrorKind::MissingRequiredArgument,
            ),
            (
                "http --tap a --rarp --rarp-prefix 33",
                ErrorKind::ValueValidation,
            ),
            (
                "http --tun a --hardware-address 02:00:00:00:00:01",
                ErrorKind::ArgumentConflict,
            ),
            (
                "http --tap a --hardware-address 02:00:00:00:00",
                ErrorKind::ValueValidation,
            ),
            ("http --mtu", ErrorKind::InvalidValue),
            ("http --frobnicate", ErrorKind::UnknownArgument),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!((error.kind(), error.exit_code()), (kind, 2), "{line}");
        }
    }
}
