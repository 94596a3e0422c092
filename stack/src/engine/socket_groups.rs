//! The multicast groups of one socket, with Linux's rules and errors for joining, leaving and filtering (RFC 3678).

use std::net::{IpAddr, Ipv4Addr};

use crate::error::{SocketError, SocketResult};
use crate::ip::InterfaceId;
use crate::ip::multicast::{Config, FilterMode, SourceFilter};

/// Where a socket says that a group is to be joined or left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupInterface {
    /// The stack chooses.
    Any,
    /// On the interface that has the address.
    Address(Ipv4Addr),
    /// On the interface of that number.
    Number(InterfaceId),
}

/// What is done about one source of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceChange {
    /// It is heard, and only those that are joined like this (`IP_ADD_SOURCE_MEMBERSHIP`).
    Join,
    /// It is heard no more (`IP_DROP_SOURCE_MEMBERSHIP`); with the last one the group is left.
    Leave,
    /// All are heard but this one and others like it (`IP_BLOCK_SOURCE`).
    Block,
    /// It is heard again (`IP_UNBLOCK_SOURCE`).
    Unblock,
}

/// A group that a socket has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) group: IpAddr,
    pub(crate) interface: InterfaceId,
    /// As it was named: the interface may have lost that address since.
    named: GroupInterface,
    pub(crate) filter: SourceFilter,
}

impl Joined {
    /// As it is once it was left.
    fn left(self) -> Self {
        Self {
            filter: SourceFilter::nothing(),
            ..self
        }
    }
}

/// The groups that a socket has joined.
#[derive(Debug, Default)]
pub(crate) struct SocketGroups(Vec<Joined>);

impl SocketGroups {
    /// Joins a group, from all sources.
    ///
    /// # Errors
    /// `AddressInUse` when it is joined on the interface, `NoBuffers` when too many are.
    pub(crate) fn join(
        &mut self,
        group: IpAddr,
        interface: InterfaceId,
        named: GroupInterface,
        config: &Config,
    ) -> SocketResult<&Joined> {
        self.add(group, interface, named, SourceFilter::everything(), config)
    }

    fn add(
        &mut self,
        group: IpAddr,
        interface: InterfaceId,
        named: GroupInterface,
        filter: SourceFilter,
        config: &Config,
    ) -> SocketResult<&Joined> {
        if self.place(group, interface).is_some() {
            return Err(SocketError::AddressInUse);
        }
        let of_family = self
            .0
            .iter()
            .filter(|joined| joined.group.is_ipv4() == group.is_ipv4());
        let limit = if group.is_ipv4() {
            config.max_memberships_v4
        } else {
            config.max_memberships_v6
        };
        if of_family.count() >= limit {
            return Err(SocketError::NoBuffers);
        }
        self.0.push(Joined {
            group,
            interface,
            named,
            filter,
        });
        self.0.last().ok_or(SocketError::NoBuffers)
    }

    /// Leaves a group on the interface that was found by what is named; where none is found, the first that was joined by
    /// the same name, or with [`GroupInterface::Any`] the first at all.
    ///
    /// # Errors
    /// `AddressNotAvailable` when there is none.
    pub(crate) fn leave(
        &mut self,
        group: IpAddr,
        found: Option<InterfaceId>,
        named: GroupInterface,
    ) -> SocketResult<Joined> {
        let fits = |joined: &Joined| {
            joined.group == group
                && match found {
                    Some(interface) => joined.interface == interface,
                    None => named == GroupInterface::Any || joined.named == named,
                }
        };
        let place = self.0.iter().position(fits);
        let place = place.ok_or(SocketError::AddressNotAvailable)?;
        Ok(self.0.remove(place).left())
    }

    /// Changes what is heard of a group; gives what became of it, with a filter that hears nothing if it was left.
    ///
    /// # Errors
    /// `InvalidInput` when the group is not joined, or its filter is of the other kind; `AddressNotAvailable` when
    /// nothing would change; `NoBuffers` when there are too many sources or groups.
    pub(crate) fn change_source(
        &mut self,
        change: SourceChange,
        source: IpAddr,
        group: IpAddr,
        (interface, named): (InterfaceId, GroupInterface),
        config: &Config,
    ) -> SocketResult<Joined> {
        let most = if group.is_ipv4() {
            config.max_sources_v4
        } else {
            config.max_sources_v6
        };
        if change == SourceChange::Join && most > 0 && self.place(group, interface).is_none() {
            self.add(group, interface, named, SourceFilter::nothing(), config)?;
        }
        let place = self.place(group, interface);
        let place = place.ok_or(SocketError::InvalidInput)?;
        let joined = &mut self.0[place];
        let mode = match change {
            SourceChange::Join | SourceChange::Leave => FilterMode::Include,
            SourceChange::Block | SourceChange::Unblock => FilterMode::Exclude,
        };
        let sources = &mut joined.filter.sources;
        match change {
            // An empty filter may change its kind.
            _ if joined.filter.mode != mode && !sources.is_empty() => {
                return Err(SocketError::InvalidInput);
            }
            SourceChange::Join | SourceChange::Block if sources.len() >= most => {
                return Err(SocketError::NoBuffers);
            }
            SourceChange::Join | SourceChange::Block => {
                if !sources.insert(source) {
                    return Err(SocketError::AddressNotAvailable);
                }
                joined.filter.mode = mode;
            }
            SourceChange::Leave | SourceChange::Unblock => {
                if !sources.remove(&source) {
                    return Err(SocketError::AddressNotAvailable);
                }
            }
        }
        if joined.filter.is_nothing() {
            return Ok(self.0.remove(place));
        }
        Ok(joined.clone())
    }

    /// Whether the socket hears `source` in a group that came in through `interface`. `from_others` says whether it hears
    /// groups that only others have joined. Linux looks at the interface for IPv4 alone.
    pub(crate) fn hears(
        &self,
        group: IpAddr,
        interface: InterfaceId,
        source: IpAddr,
        from_others: bool,
    ) -> bool {
        let joined = self.0.iter().find(|joined| {
            joined.group == group && (group.is_ipv6() || joined.interface == interface)
        });
        joined.map_or(from_others, |joined| joined.filter.permits(source))
    }

    /// Leaves all.
    pub(crate) fn take(&mut self) -> impl ExactSizeIterator<Item = Joined> + use<> {
        std::mem::take(&mut self.0).into_iter().map(Joined::left)
    }

    fn place(&self, group: IpAddr, interface: InterfaceId) -> Option<usize> {
        self.0
            .iter()
            .position(|joined| joined.group == group && joined.interface == interface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: InterfaceId = InterfaceId(2);
    const SECOND: InterfaceId = InterfaceId(3);

    fn group(n: u8) -> IpAddr {
        IpAddr::from([239, 0, 0, n])
    }

    fn source(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    #[test]
    fn a_group_is_joined_once_on_an_interface_and_left_there() {
        let mut groups = SocketGroups::default();
        let config = Config::default();
        let ours = GroupInterface::Address(Ipv4Addr::new(10, 0, 0, 1));
        assert!(groups.join(group(1), FIRST, ours, &config).is_ok());
        let again = groups.join(group(1), FIRST, GroupInterface::Any, &config);
        assert_eq!(again, Err(SocketError::AddressInUse));
        let second = GroupInterface::Number(SECOND);
        assert!(groups.join(group(1), SECOND, second, &config).is_ok());
        let other = GroupInterface::Address(Ipv4Addr::new(10, 0, 0, 2));
        let unknown = Err(SocketError::AddressNotAvailable);
        assert_eq!(groups.leave(group(1), None, other), unknown);
        assert_eq!(groups.leave(group(2), None, GroupInterface::Any), unknown);
        let left = groups.leave(group(1), Some(SECOND), second).unwrap();
        assert_eq!(left.interface, SECOND);
        // The interface has lost the address.
        let left = groups.leave(group(1), None, ours).unwrap();
        assert_eq!(left.interface, FIRST);
        assert_eq!(groups.leave(group(1), Some(FIRST), ours), unknown);
    }

    #[test]
    fn groups_and_sources_are_limited_as_on_linux() {
        let mut groups = SocketGroups::default();
        let config = Config::default();
        for n in 0..20 {
            let joined = groups.join(group(n), FIRST, GroupInterface::Any, &config);
            assert!(joined.is_ok());
        }
        let more = groups.join(group(20), FIRST, GroupInterface::Any, &config);
        assert_eq!(more, Err(SocketError::NoBuffers));
        // IPv6 is counted by itself.
        let v6 = "ff05::1".parse().unwrap();
        assert!(groups.join(v6, FIRST, GroupInterface::Any, &config).is_ok());
        let at = (FIRST, GroupInterface::Any);
        for n in 0..10 {
            let blocked =
                groups.change_source(SourceChange::Block, source(n), group(0), at, &config);
            assert!(blocked.is_ok());
        }
        let more = groups.change_source(SourceChange::Block, source(10), group(0), at, &config);
        assert_eq!(more, Err(SocketError::NoBuffers));
    }

    #[test]
    fn sources_are_filtered_with_linux_errors() {
        use SourceChange::{Block, Join, Leave, Unblock};
        let mut groups = SocketGroups::default();
        let config = Config::default();
        let at = (FIRST, GroupInterface::Any);
        let mut change = |change, n| groups.change_source(change, source(n), group(1), at, &config);
        let invalid = Err(SocketError::InvalidInput);
        let unchanged = Err(SocketError::AddressNotAvailable);
        // Who has not joined has nothing to filter.
        assert_eq!(change(Block, 1), invalid);
        assert_eq!(change(Leave, 1), invalid);
        assert!(change(Join, 1).unwrap().filter.permits(source(1)));
        assert_eq!(change(Join, 1), unchanged);
        assert_eq!(change(Leave, 2), unchanged);
        assert_eq!(change(Block, 2), invalid);
        assert_eq!(change(Unblock, 1), invalid);
        assert!(change(Join, 2).is_ok());
        assert!(!change(Leave, 1).unwrap().filter.is_nothing());
        // The last source goes with the group.
        assert!(change(Leave, 2).unwrap().filter.is_nothing());
        assert_eq!(change(Leave, 2), invalid);
        groups
            .join(group(1), FIRST, GroupInterface::Any, &config)
            .unwrap();
        let mut change = |change, n| groups.change_source(change, source(n), group(1), at, &config);
        assert!(!change(Block, 1).unwrap().filter.permits(source(1)));
        assert_eq!(change(Block, 1), unchanged);
        assert_eq!(change(Join, 2), invalid);
        assert!(change(Unblock, 1).unwrap().filter.is_everything());
        assert_eq!(change(Unblock, 1), unchanged);
        // Who hears everybody may choose one.
        assert!(!change(Join, 2).unwrap().filter.permits(source(1)));
    }

    #[test]
    fn a_socket_hears_what_it_has_joined_and_perhaps_what_others_have() {
        let mut groups = SocketGroups::default();
        let config = Config::default();
        let at = (FIRST, GroupInterface::Any);
        let v6: IpAddr = "ff05::1".parse().unwrap();
        for joined in [group(1), v6] {
            groups
                .change_source(SourceChange::Join, source(1), joined, at, &config)
                .unwrap();
        }
        for (joined, interface, from, expected) in [
            (group(1), FIRST, 1, [true, true]),
            (group(1), FIRST, 2, [false, false]),
            (group(2), FIRST, 1, [true, false]),
            // Over IPv4 a group of another interface is another one.
            (group(1), SECOND, 2, [true, false]),
            (v6, SECOND, 2, [false, false]),
        ] {
            let hears = [true, false].map(|all| groups.hears(joined, interface, source(from), all));
            assert_eq!(hears, expected, "{joined} {interface:?} {from}");
        }
    }
}
