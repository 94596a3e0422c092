//! The UDP socket: any order of datagrams, errors and calls.

use std::net::SocketAddr;

use bytes::Bytes;
use tidewire::error::SocketError;
use tidewire::transport::{IcmpError, Readiness};
use tidewire::udp::{Config, Datagram, Socket};
use tidewire::wire::Ecn;

use super::Input;

/// Octets in are octets out, memory is bounded and given back, and whoever waits is told.
pub(super) fn socket(data: &[u8]) {
    let mut input = Input(data);
    let limit = 3000;
    let mut socket = Socket::new(Config {
        receive_buffer: limit,
        send_buffer: limit,
    });
    // What waits, datagram by datagram, as the socket should have cut it.
    let mut expected: Vec<Vec<u8>> = vec![];
    let mut send_blocked = false;
    assert!(socket.take_readiness().contains(Readiness::WRITABLE));
    while !input.is_empty() {
        match input.u8() % 8 {
            0 => deliver(&mut socket, &mut input, &mut expected),
            1 | 2 => {
                let mut buffer = vec![0; usize::from(input.u8())];
                match socket.recv(&mut buffer) {
                    Ok(received) => {
                        let whole = expected.remove(0);
                        assert_eq!(buffer[..received.len], whole[..received.len]);
                        assert_eq!(received.truncated, whole.len() > buffer.len());
                    }
                    Err(SocketError::WouldBlock) => assert!(expected.is_empty()),
                    Err(error) => assert_eq!(error, SocketError::ConnectionRefused),
                }
            }
            3 => {
                if let Ok((bytes, _)) = socket.recv_bytes() {
                    assert_eq!(bytes, expected.remove(0));
                }
            }
            4 => {
                let port = u16::from(input.u8() % 4);
                let payload = Bytes::from(vec![0; usize::from(input.u16())]);
                let held = socket.send_queue_memory();
                match socket.send(payload, Some(peer(port))) {
                    Ok(()) => assert!(held < limit.max(socket.send_buffer())),
                    Err(SocketError::WouldBlock) => {
                        assert!(held >= socket.send_buffer());
                        send_blocked = true;
                    }
                    Err(SocketError::InvalidInput) => assert_eq!(port, 0),
                    Err(error) => {
                        assert!(matches!(
                            error,
                            SocketError::ConnectionRefused | SocketError::MessageTooLong
                        ));
                    }
                }
            }
            5 => {
                while socket.poll_transmit().is_some() {}
                assert_eq!(socket.send_queue_memory(), 0);
                let is_writable = socket.take_readiness().contains(Readiness::WRITABLE);
                assert!(
                    is_writable || !send_blocked,
                    "a blocked sender is told of room"
                );
                send_blocked = false;
            }
            6 => socket
                .connect(peer(u16::from(input.u8() % 4)))
                .expect("no broadcast address"),
            _ => {
                let error = IcmpError::Refused(SocketError::ConnectionRefused);
                if socket
                    .handle_icmp(error, peer(u16::from(input.u8() % 4)))
                    .is_ok()
                {
                    assert!(socket.take_readiness().contains(Readiness::ERROR));
                    send_blocked = false;
                }
            }
        }
        assert_eq!(socket.receive_queue_len(), expected.len());
        if expected.is_empty() {
            assert_eq!(socket.receive_queue_memory(), 0);
        }
    }
}

fn deliver(socket: &mut Socket, input: &mut Input<'_>, expected: &mut Vec<Vec<u8>>) {
    let source = peer(u16::from(input.u8() % 4));
    let segment_size = usize::from(input.u8());
    let slices = [input.u8(), input.u8(), input.u8()].map(|len| input.take(usize::from(len)));
    let whole = slices.concat();
    let held = socket.receive_queue_memory();
    let result = socket.handle_datagram(Datagram {
        source,
        destination: peer(9),
        payload: slices.into_iter().map(Bytes::copy_from_slice).collect(),
        segment_size,
        ecn: Ecn::NotEct,
    });
    if result.is_err() {
        assert!(held >= socket.receive_buffer() || socket.remote().is_some());
        return;
    }
    assert!(held < socket.receive_buffer());
    match segment_size {
        _ if whole.is_empty() => expected.push(vec![]),
        0 => expected.push(whole),
        _ => expected.extend(whole.chunks(segment_size).map(<[u8]>::to_vec)),
    }
}

fn peer(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], port))
}
