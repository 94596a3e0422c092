//! The bodies of the fuzz targets: what must hold for any octets.
//!
//! `fuzz/` wraps each in a libFuzzer program of the same name; `tests/fuzz_corpus.rs` replays the committed corpora
//! with a stable compiler. A body panics when a property is broken. Nothing is asserted that a hostile sender could
//! break: only what the code promises for all input.

mod arp;
mod coalescing;
mod dhcp;
mod engine;
mod ethernet;
mod forwarding;
mod groups;
mod ip;
mod ndp;
mod neighbor;
mod netdev;
mod rarp;
mod router_discovery;
mod sctp;
mod sctp_association;
mod udp;
mod wire;

/// A fuzz target's name, which is also its corpus's folder, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("arp", arp::arp),
    ("coalescing", coalescing::coalescing),
    ("dhcp_client", dhcp::client),
    ("dhcpv4", dhcp::message),
    ("engine", engine::engine),
    ("ethernet_engine", ethernet::engine),
    ("forwarding", forwarding::forwarding),
    ("icmpv4", wire::icmpv4),
    ("icmpv6", wire::icmpv6),
    ("igmp", groups::igmp),
    ("ip_input", ip::input),
    ("ipv4", wire::ipv4),
    ("ipv6", wire::ipv6),
    ("mld", groups::mld),
    ("ndp", ndp::ndp),
    ("neighbor", neighbor::neighbor),
    ("rarp", rarp::rarp),
    ("reassembly", ip::reassembly),
    ("router_discovery", router_discovery::discovery),
    ("sctp", sctp::packet),
    ("sctp_association", sctp_association::association),
    ("segmentation", netdev::segmentation),
    ("tcp", wire::tcp),
    ("udp", wire::udp),
    ("udp_socket", udp::socket),
    ("virtio_header", netdev::virtio_header),
];

/// Runs the target `name`.
///
/// # Panics
/// When there is none of that name, or when `data` breaks a property.
pub fn run(name: &str, data: &[u8]) {
    let (_, body) = TARGETS
        .iter()
        .find(|(target, _)| *target == name)
        .expect("the name of a target");
    body(data);
}

/// Reads parameters from the front of a fuzzer's octets; zeros once they have run out.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next octets, as many as there are up to `len`.
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        front
    }

    fn rest(self) -> &'a [u8] {
        self.0
    }
}
