//! What a whole stack can be told. Protocols have structs of their own.

use std::time::Duration;

use crate::ip::autoconf::dad::{self, DuplicateDetection};
use crate::ip::{multicast, redirect};
use crate::{neighbor, sctp, tcp, udp};

/// A stack's configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Seeds everything random in the stack; `None` takes the operating system's randomness. With the same seed,
    /// the same input and the same times, a stack sends the same packets, byte for byte.
    pub seed: Option<u64>,
    /// TCP.
    pub tcp: tcp::Config,
    /// UDP.
    pub udp: udp::Config,
    /// SCTP.
    pub sctp: sctp::Config,
    /// The neighbour cache: ARP and IPv6 neighbour discovery.
    pub neighbor: neighbor::Config,
    /// What the stack does by itself.
    pub host: HostConfig,
}

/// Whether an address belongs to the host or to its interface (RFC 1122 3.3.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum HostModel {
    /// To the host: packets for it are taken, and ARP is answered, on every interface, and it is sent from through any.
    /// Linux's way. Link-local addresses are of their link all the same.
    #[default]
    Weak,
    /// To its interface: packets for it are taken, and ARP is answered, on that interface alone, and what is sent from
    /// it leaves there. For hosts on several networks that are to stay apart.
    Strong,
}

/// What IPv6 packets carry in their flow label (RFC 6437), by which networks spread flows over several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum FlowLabels {
    /// A keyed hash of the flow's addresses, ports and protocol: the same in all its packets, never 0, and not to be
    /// guessed (RFC 6437 3).
    #[default]
    Hashed,
    /// 0: no label.
    Zero,
}

/// What concerns no single socket.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Hop limit and TTL of packets (RFC 1122 3.2.1.7 and IANA's default). Default 64, as Linux.
    pub ttl: u8,
    /// Answer ICMP echo requests (RFC 1122 3.2.2.6, MUST). Default true.
    pub answer_echo: bool,
    /// Take TCP segments that came by a source route, and answer on the route's way back (RFC 9293 3.9.2.1). Others' source
    /// routes lead around filters and address checks (RFC 7126 4.3), so that packets that have them are dropped unless asked
    /// for, as on Linux (`accept_source_route`). Default false.
    pub accept_source_routes: bool,
    /// Believe IPv4 routers that name a better first hop for a destination (RFC 1122 3.2.2.2), if they are the first hop
    /// and the new one is on their link. Default false: RFC 1122 would have it on, but anybody on the link can forge such
    /// a message and take a connection's packets, and hosts of one router have no use for it.
    pub accept_redirects: bool,
    /// Pass packets for other hosts on between interfaces, as a router does (RFC 1812, RFC 8200), by the stack's routes. A
    /// router learns no addresses and routes from other routers' advertisements and redirects of IPv6 (RFC 4862 1, RFC 4861
    /// 8.2), and sends none. IPv4 hosts on a link are redirected to nearer routers there (RFC 1812 5.2.7.2). Packets by
    /// source routes are dropped, unless [`Self::accept_source_routes`] is set and the route leads past this router. Default
    /// false, as RFC 1122 3.3.1.1 has it for hosts and as on Linux (`ip_forward`, `forwarding`).
    pub forwarding: bool,
    /// Whether IPv6 packets carry flow labels. Default [`FlowLabels::Hashed`], as on Linux (`auto_flowlabels`).
    pub flow_labels: FlowLabels,
    /// Stateless replies (RST, ICMP), and packets on their way through, that wait for a flush or a full device; more are
    /// dropped and counted. Default 1024.
    pub reply_queue: usize,
    /// Octets of fragments kept for reassembly, all datagrams together. Default 4 MiB, as Linux's `ipfrag_high_thresh`.
    pub reassembly_memory: usize,
    /// Octets of TCP's buffers, all connections together, 4 KiB at least for each: when three quarters are in
    /// use, buffers stop growing; when all are, only what keeps connections going is taken (Linux's `tcp_mem`). `None`, the
    /// default, is a quarter of the machine's memory.
    pub tcp_memory: Option<usize>,
    /// Destinations whose path MTU is remembered. Default 4096.
    pub path_mtu_entries: usize,
    /// How long a path MTU that ICMP told is believed, 5 minutes at least (RFC 8201 4); [`Duration::MAX`] is for ever. Default
    /// 10 minutes (RFC 1191 6.3), as Linux (`mtu_expires`).
    pub path_mtu_lifetime: Duration,
    /// Join received packets of a connection into super-packets where the device delivers them one by one (what Linux
    /// calls generic receive offload). Default true.
    pub receive_coalescing: bool,
    /// Give each Ethernet interface a link-local IPv6 address made from its hardware address (RFC 4862 5.3). Default
    /// true.
    pub link_local_addresses: bool,
    /// Whether an address belongs to the host or to its interface. Default weak, as Linux.
    pub host_model: HostModel,
    /// Whether others on an Ethernet link are asked if they have an IPv4 address of ours (RFC 5227). Default off, as
    /// Linux.
    pub duplicate_detection_v4: DuplicateDetection,
    /// The same for IPv6 (RFC 4862 5.4). Default optimistic (RFC 4429): a stack is of use at once, and gives up an
    /// address that turns out to be another host's.
    pub duplicate_detection_v6: DuplicateDetection,
    /// Times and limits of duplicate detection.
    pub duplicate_detection: dad::Config,
    /// Times and limits of multicast groups (IGMP and MLD).
    pub multicast: multicast::Config,
    /// Whether routers may name better first hops (RFC 4861 8), and limits.
    pub redirects: redirect::Config,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            ttl: 64,
            answer_echo: true,
            accept_source_routes: false,
            accept_redirects: false,
            forwarding: false,
            flow_labels: FlowLabels::default(),
            reply_queue: 1024,
            reassembly_memory: 4 << 20,
            tcp_memory: None,
            path_mtu_entries: 4096,
            path_mtu_lifetime: Duration::from_secs(600),
            receive_coalescing: true,
            link_local_addresses: true,
            host_model: HostModel::Weak,
            duplicate_detection_v4: DuplicateDetection::Off,
            duplicate_detection_v6: DuplicateDetection::Optimistic,
            duplicate_detection: dad::Config::default(),
            multicast: multicast::Config::default(),
            redirects: redirect::Config::default(),
        }
    }
}
