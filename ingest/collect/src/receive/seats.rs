//! Connections, counted in all and per address.
//!
//! Guarantees: there are never more than `max` connections, nor more than `per_address_max` of one address, but for the
//! moment that a closed one takes to end; a new one closes the connection of the same address (or, when all are taken, of
//! the address with the most) that was idle longest, those first that never sent a request. So clients that open
//! connections and say nothing close each other, and a request that comes at once is served. Only when a request is under
//! way on each of them is the new one refused.
//!
//! An address is an IPv4 address or the first 64 bits of an IPv6 one: a host has all of the rest for itself.

use super::traffic::Traffic;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Connections of a listener.
#[derive(Debug)]
pub(super) struct Seats {
    max: usize,
    per_address_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    addresses: HashMap<IpAddr, Vec<Arc<Traffic>>>,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    address: IpAddr,
    pub(super) traffic: Arc<Traffic>,
}

impl Seats {
    /// Places for `max` connections, of them `per_address_max` for one address; 0 is no limit per address.
    pub(super) fn new(max: usize, per_address_max: usize) -> Arc<Seats> {
        let per_address_max = if per_address_max == 0 { usize::MAX } else { per_address_max };
        Arc::new(Seats { max: max.max(1), per_address_max, taken: Mutex::default() })
    }

    /// Takes a place, if need be that of an idle connection.
    pub(super) fn take(self: &Arc<Seats>, ip: IpAddr) -> Option<Seat> {
        let address = host_of(ip);
        let mut taken = self.taken.lock();
        if taken.addresses.get(&address).is_some_and(|of| of.len() >= self.per_address_max) && !taken.evict(address) {
            return None;
        }
        if taken.all >= self.max && !taken.evict_any() {
            return None;
        }
        let traffic = Arc::new(Traffic::default());
        taken.addresses.entry(address).or_default().push(traffic.clone());
        taken.all += 1;
        Some(Seat { seats: self.clone(), address, traffic })
    }

    /// Closes the connection that was idle longest, of the address with the most: when descriptors run out.
    pub(super) fn close_one(&self) {
        self.taken.lock().evict_any();
    }
}

impl Taken {
    /// Closes the idlest connection of the address with the most that has one.
    fn evict_any(&mut self) -> bool {
        let mut addresses: Vec<(usize, IpAddr)> = self.addresses.iter().map(|(ip, of)| (of.len(), *ip)).collect();
        addresses.sort_unstable_by(|a, b| b.cmp(a));
        addresses.into_iter().any(|(_, address)| self.evict(address))
    }

    /// Closes the idlest connection of an address, if one is idle.
    fn evict(&mut self, address: IpAddr) -> bool {
        let Some(of) = self.addresses.get_mut(&address) else { return false };
        let idle = of.iter().enumerate().filter_map(|(at, traffic)| Some((traffic.idle()?, at)));
        let Some((_, at)) = idle.min() else { return false };
        of.swap_remove(at).close();
        self.left(address);
        true
    }

    fn left(&mut self, address: IpAddr) {
        self.all -= 1;
        if self.addresses.get(&address).is_some_and(Vec::is_empty) {
            self.addresses.remove(&address);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        let Some(of) = taken.addresses.get_mut(&self.address) else { return };
        // One that was closed for another has given its place up already.
        let Some(at) = of.iter().position(|traffic| Arc::ptr_eq(traffic, &self.traffic)) else { return };
        of.swap_remove(at);
        taken.left(self.address);
    }
}

/// What counts as one address.
fn host_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_closed(seat: &Seat) -> bool {
        use std::future::Future;
        use std::task::{Context, Poll, Waker};
        let closed = std::pin::pin!(seat.traffic.closed());
        closed.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn idle_connections_of_an_address_make_way_for_its_next() {
        let seats = Seats::new(8, 3);
        let mut of_a: Vec<Seat> = (0..3).map(|_| seats.take(ip("10.0.0.1")).unwrap()).collect();
        // The first was served before, so the second, which never said anything, is closed first.
        drop(of_a[0].traffic.begin(false));
        let busy = of_a[2].traffic.begin(false);
        of_a.push(seats.take(ip("10.0.0.1")).unwrap());
        assert_eq!(of_a.iter().map(is_closed).collect::<Vec<_>>(), [false, true, false, false]);
        of_a.push(seats.take(ip("10.0.0.1")).unwrap());
        of_a.push(seats.take(ip("10.0.0.1")).unwrap());
        assert!(is_closed(&of_a[0]) || is_closed(&of_a[3]), "an idle one");
        assert!(!is_closed(&of_a[2]), "a request is under way on it");
        drop(busy);
        assert!(seats.take(ip("10.0.0.2")).is_some(), "others are not touched");
    }

    #[test]
    fn busy_connections_are_not_closed() {
        let seats = Seats::new(3, 2);
        let mut held: Vec<_> = (0..2)
            .map(|_| {
                let seat = seats.take(ip("10.0.0.1")).unwrap();
                (seat.traffic.begin(false), seat)
            })
            .collect();
        assert!(seats.take(ip("10.0.0.1")).is_none(), "both of this address are busy");
        let other = seats.take(ip("10.0.0.2")).unwrap();
        let third = seats.take(ip("10.0.0.3")).unwrap();
        assert!(is_closed(&other), "all were taken, and this one was idle");
        let _busy = third.traffic.begin(false);
        assert!(seats.take(ip("10.0.0.4")).is_none(), "all are busy");
        held.pop();
        assert!(seats.take(ip("10.0.0.4")).is_some());
    }

    #[test]
    fn places_are_given_back_once() {
        let seats = Seats::new(2, 0);
        let first = seats.take(ip("::1")).unwrap();
        let second = seats.take(ip("::1")).unwrap();
        let third = seats.take(ip("::1")).unwrap();
        drop((first, second, third));
        let taken = seats.taken.lock();
        assert_eq!((taken.all, taken.addresses.len()), (0, 0));
    }

    #[test]
    fn what_counts_as_one_address() {
        for (a, b, same) in [
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("2001:db8::1", "2001:db8::2:3", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            assert_eq!(host_of(ip(a)) == host_of(ip(b)), same, "{a} {b}");
        }
    }
}
