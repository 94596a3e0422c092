//! What ICMP says of an association's packets (RFC 9260 10).

use std::net::IpAddr;

use crate::error::SocketError;
use crate::sctp::association::shutdown::End;
use crate::sctp::association::{Association, State};
use crate::stats::DropReason;
use crate::transport::IcmpError;
use crate::wire::sctp::{COMMON_HEADER_LEN, CommonHeader, kind};

/// The front of a packet of ours, as an ICMP error quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotedPacket {
    /// Its header: source and destination are ours and the peer's.
    pub header: CommonHeader,
    /// The Initiate Tag, if so much is quoted and it begins with an INIT.
    pub initiate_tag: Option<u32>,
}

impl QuotedPacket {
    /// Reads what is quoted behind the IP header. `None` if that is too short to name an association and show its tag, as
    /// from routers that quote no more than 8 octets and cut the tag off: those are not believed (ICMP6).
    pub fn parse(octets: &[u8]) -> Option<Self> {
        // The checksum may be missing: 8 octets have ports and tag.
        let mut front = [0; COMMON_HEADER_LEN];
        let len = octets.len().min(COMMON_HEADER_LEN);
        front[..len].copy_from_slice(&octets[..len]);
        let header = CommonHeader::parse(&front).ok().filter(|_| len >= 8)?;
        let chunk = octets.get(COMMON_HEADER_LEN..).unwrap_or_default();
        let initiate_tag = match chunk.first_chunk::<8>() {
            Some([kind::INIT, _, _, _, tag @ ..]) => Some(u32::from_be_bytes(*tag)),
            _ => None,
        };
        Some(Self {
            header,
            initiate_tag,
        })
    }

    fn is_init(&self) -> bool {
        self.header.verification_tag == 0
    }
}

impl Association {
    /// Takes an ICMP error about a packet of ours to `remote`.
    ///
    /// # Errors
    /// [`DropReason::BadIcmp`] for one that quotes no packet of this association.
    pub fn handle_icmp(
        &mut self,
        remote: IpAddr,
        error: IcmpError,
        quoted: &QuotedPacket,
    ) -> Result<(), DropReason> {
        if self.state == State::Closed || !self.has_sent(quoted) {
            return Err(DropReason::BadIcmp);
        }
        match error {
            // ICMP7.
            IcmpError::PacketTooBig { mtu } => {
                let known = self.paths.find(remote).map(|id| self.paths.get(id).mtu());
                if known.is_some_and(|known| mtu < known) {
                    self.handle_path_mtu(remote, mtu);
                }
            }
            // ICMP8: nobody there speaks SCTP. As an ABORT; an INIT's counts only while that is all that was sent.
            IcmpError::Refused(SocketError::ProtocolUnreachable) => {
                if !quoted.is_init() || self.state == State::CookieWait {
                    self.end(End::failed(SocketError::ProtocolUnreachable));
                }
            }
            // ICMP3: an SCTP host would have sent an ABORT.
            IcmpError::Refused(SocketError::ConnectionRefused) => {}
            // ICMP9: remembered, for when the peer is given up.
            IcmpError::Refused(error) | IcmpError::Unreachable(error) => {
                self.soft_error = Some(error);
            }
        }
        self.dirty = true;
        Ok(())
    }

    /// The neighbour that packets go to does not answer: told if the peer is given up. Unlike with TCP an attempt to set an
    /// association up goes on, since the peer may be reached some other way.
    pub fn handle_unreachable_neighbor(&mut self) {
        self.soft_error = Some(SocketError::HostUnreachable);
    }

    /// ICMP6: whoever quotes the right tag has seen our packets.
    fn has_sent(&self, quoted: &QuotedPacket) -> bool {
        match quoted.header.verification_tag {
            0 => quoted.initiate_tag == Some(self.local.tag),
            tag => tag == self.peer_tag,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_quoted_octets_name_the_tag_and_more_an_init() {
        // RFC 792: 8 octets at least; RFC 9260 10, ICMP6.
        let header = CommonHeader {
            source_port: 1,
            destination_port: 2,
            verification_tag: 0,
        };
        let mut octets = header.emit().to_vec();
        octets.extend([1, 0, 0, 20, 0, 0, 0, 9]);
        let quoted = |len: usize| QuotedPacket::parse(&octets[..len]);
        let with = |initiate_tag| {
            Some(QuotedPacket {
                header,
                initiate_tag,
            })
        };
        assert_eq!(quoted(7), None);
        assert_eq!(quoted(8), with(None));
        assert_eq!(quoted(19), with(None));
        assert_eq!(quoted(20), with(Some(9)));
        octets[12] = 10;
        assert_eq!(QuotedPacket::parse(&octets), with(None), "not an INIT");
    }
}
