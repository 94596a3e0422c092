//! Flow labels: what the IPv6 packets of a flow have in common for those on the way who spread flows (RFC 6437).
//!
//! A label is a keyed hash of what makes a flow, so that nobody has to remember one: a connection's SYN-ACK, its segments
//! and what TIME-WAIT answers for it carry the same. Paths keep it ([`Path::flow_label`]), so that it costs a hash when a
//! path is looked up and nothing per packet. What comes in is taken whatever its label.

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use crate::config::FlowLabels;
use crate::engine::Engine;
use crate::engine::network::Path;
use crate::transport::demux::Tuple;
use crate::wire::ipv6;

impl Engine {
    /// The path, for packets of that protocol between those ports.
    pub(crate) fn label(
        &self,
        path: Path,
        protocol: u8,
        local_port: u16,
        remote: SocketAddr,
    ) -> Path {
        let local = SocketAddr::new(path.source, local_port);
        path.with_flow_label(self.flow_label(protocol, local, remote))
    }

    /// The path, for a connection's packets.
    pub(crate) fn label_flow(&self, path: Path, protocol: u8, flow: &Tuple) -> Path {
        path.with_flow_label(self.flow_label(protocol, flow.local, flow.remote))
    }

    /// The path, for packets of a protocol without ports.
    pub(crate) fn label_plain(&self, path: Path, protocol: u8, remote: IpAddr) -> Path {
        self.label(path, protocol, 0, SocketAddr::new(remote, 0))
    }

    /// The label of a flow from `local` to `remote` (RFC 6437 3: uniformly distributed, and hard to guess, as section 6.1
    /// wants it); 0 in IPv4 and where none is wanted.
    fn flow_label(&self, protocol: u8, local: SocketAddr, remote: SocketAddr) -> u32 {
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (local.ip(), remote.ip()) else {
            return 0;
        };
        if self.config.host.flow_labels == FlowLabels::Zero {
            return 0;
        }
        let mut hasher = self.flow_key.hasher();
        hasher.write_u8(protocol);
        hasher.write(&source.octets());
        hasher.write_u16(local.port());
        hasher.write(&destination.octets());
        hasher.write_u16(remote.port());
        // 0 is no label.
        (hasher.finish() as u32 & ipv6::FLOW_LABEL).max(1)
    }
}
