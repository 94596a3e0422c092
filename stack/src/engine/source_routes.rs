//! Ways that senders choose for their packets (RFC 9293 3.9.2.1): where such a packet is sent first, and the ways back to
//! those whose handshake is under way.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::transport::demux::Tuple;
use crate::wire::ipv4::SourceRoute;

/// Where the packets of a flow are sent: to the first router of their route, or straight to the peer.
pub(crate) fn towards(route: Option<&SourceRoute>, tuple: &Tuple) -> IpAddr {
    route.map_or(tuple.remote.ip(), |route| route.first_hop().into())
}

/// Handshakes of one listener whose way back is remembered. The answer to a SYN needs it; what comes after that brings its own.
const MAX_HANDSHAKES: usize = 64;

/// The ways back to whoever is about to connect, oldest first. Nothing is allocated while nobody comes by a source route.
#[derive(Debug, Default)]
pub(crate) struct ReturnRoutes(VecDeque<(Tuple, SourceRoute)>);

impl ReturnRoutes {
    /// A segment of a handshake came by the route whose way back is `route`, or by none.
    pub(crate) fn note(&mut self, tuple: Tuple, route: Option<&SourceRoute>) {
        if route.is_none() && self.0.is_empty() {
            return;
        }
        self.0.retain(|(known, _)| *known != tuple);
        if let Some(route) = route {
            if self.0.len() == MAX_HANDSHAKES {
                self.0.pop_front();
            }
            self.0.push_back((tuple, route.clone()));
        }
    }

    /// The way back to who is about to connect.
    pub(crate) fn of(&self, tuple: &Tuple) -> Option<&SourceRoute> {
        let mut known = self.0.iter();
        known
            .find(|(known, _)| known == tuple)
            .map(|(_, route)| route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_by_source_routes_are_bounded_and_the_oldest_goes_first() {
        let mut routes = ReturnRoutes::default();
        let route = SourceRoute::loose(&[[10, 0, 0, 1].into()]).unwrap();
        let tuple = |port: usize| Tuple {
            local: ([10, 0, 0, 2], 80).into(),
            remote: ([10, 0, 0, 3], port as u16).into(),
        };
        for port in 0..=MAX_HANDSHAKES {
            routes.note(tuple(port), Some(&route));
        }
        assert_eq!(routes.0.len(), MAX_HANDSHAKES);
        assert_eq!(routes.of(&tuple(0)), None);
        assert_eq!(routes.of(&tuple(1)), Some(&route));
        routes.note(tuple(1), None);
        assert_eq!(routes.of(&tuple(1)), None);
        assert_eq!(
            towards(Some(&route), &tuple(1)),
            IpAddr::from([10, 0, 0, 1])
        );
        assert_eq!(towards(None, &tuple(1)), IpAddr::from([10, 0, 0, 3]));
    }
}
