//! ICMP errors about a connection (RFC 9293 3.9.2.2, RFC 5927).
//!
//! Owns which errors are believed and what they do: nothing but a size of the path ever changes an established
//! connection (RFC 5927 5.2, 7); what a router said is remembered and told if the connection fails later.

use crate::error::SocketError;
use crate::stats::DropReason;
use crate::tcp::SeqNum;
use crate::tcp::connection::Connection;
use crate::tcp::connection::state::Lifecycle;
use crate::time::Instant;
use crate::transport::IcmpError;

impl Connection {
    /// Takes an ICMP error whose quoted segment had sequence number `quoted_sequence`.
    ///
    /// # Errors
    /// [`DropReason::BadIcmp`] for an error that quotes nothing in flight.
    pub fn handle_icmp(
        &mut self,
        now: Instant,
        error: IcmpError,
        quoted_sequence: SeqNum,
    ) -> Result<(), DropReason> {
        // RFC 5927 4.1: whoever cannot name a sequence number in flight did not see our packets.
        let in_flight = quoted_sequence.at_or_after(self.window.snd_una)
            && quoted_sequence.before(self.window.snd_nxt);
        if !in_flight || self.lifecycle.is_over() {
            return Err(DropReason::BadIcmp);
        }
        match error {
            IcmpError::PacketTooBig { mtu } => self.shrink_path(now, mtu),
            // RFC 9293 3.9.2.2 (MUST-56): a soft error never aborts the connection.
            IcmpError::Unreachable(error) => self.soft_error = Some(error),
            IcmpError::Refused(error) => {
                if matches!(self.lifecycle, Lifecycle::Opening(_)) {
                    // SHLD-26; RFC 5927 5.2 excepts synchronized states only.
                    self.end(Some(error));
                } else {
                    self.soft_error = Some(error);
                }
            }
        }
        Ok(())
    }

    /// The neighbour that the connection's packets go to does not answer: an attempt to connect has failed (EHOSTUNREACH,
    /// as on Linux), an established connection goes on trying and tells the reason if it gives up. Unlike an ICMP error
    /// this is our own observation (RFC 9293 MUST-56 concerns the former).
    pub fn handle_unreachable_neighbor(&mut self) {
        if matches!(self.lifecycle, Lifecycle::Opening(_)) {
            self.end(Some(SocketError::HostUnreachable));
        } else {
            self.soft_error = Some(SocketError::HostUnreachable);
        }
    }
}
