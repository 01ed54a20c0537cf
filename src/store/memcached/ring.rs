//! Which of several servers a key lies on: ketama, as libmemcached has it, but for what becomes of a dead server.
//!
//! Each server has 160 points on a ring of 32 bits, made of its name alone, and a key belongs to the next point after
//! its own. So all who know the same servers agree, in whatever order they name them, and one more or less of `n`
//! moves about an `n`th of the keys.
//!
//! The ring never changes while the program runs. One that ejected a dead server would look for its sessions on others,
//! and when the server came back would find there what had been ended in the meantime: a flushed session, revived. So a
//! server that is away is an error for its own sessions and nothing to all others.

use md5::{Digest, Md5};

/// Points of each server: four to a hash.
const POINTS: usize = 160;
/// memcached's own port, which is not written in the name that a server's points are made of.
pub(super) const PORT: u16 = 11211;

/// Points, each with the number of the server whose it is.
pub(super) struct Ring(Vec<(u32, usize)>);

impl Ring {
    /// A ring of servers, by their host and port.
    pub(super) fn new<'a>(servers: impl Iterator<Item = (&'a str, u16)>) -> Self {
        let mut points = Vec::new();
        for (n, (host, port)) in servers.enumerate() {
            let name = if port == PORT { host.to_owned() } else { format!("{host}:{port}") };
            for part in 0..POINTS / 4 {
                let hash: [u8; 16] = Md5::digest(format!("{name}-{part}")).into();
                let point = |four: &[u8; 4]| (u32::from_le_bytes(*four), name.clone(), n);
                points.extend(hash.as_chunks().0.iter().map(point));
            }
        }
        // Two servers may have a point in common: the one whose name comes first has it, wherever it was named.
        points.sort_unstable();
        points.dedup_by_key(|(point, ..)| *point);
        Self(points.into_iter().map(|(point, _, n)| (point, n)).collect())
    }

    /// The number of the server that a key lies on.
    pub(super) fn server(&self, key: &[u8]) -> usize {
        let hash: [u8; 16] = Md5::digest(key).into();
        let [a, b, c, d, ..] = hash;
        let at = u32::from_le_bytes([a, b, c, d]);
        let next = self.0.partition_point(|(point, _)| *point < at);
        // Behind the last point comes the first one.
        self.0.get(next).or(self.0.first()).map_or(0, |(_, n)| *n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: [(&str, u16); 3] = [("cache1", 11211), ("cache2", 11211), ("10.0.0.3", 11311)];

    fn keys() -> impl Iterator<Item = String> {
        (0..10_000).map(|n| format!("coat:{n:040x}"))
    }

    fn owner(servers: &[(&'static str, u16)], key: &str) -> (&'static str, u16) {
        servers[Ring::new(servers.iter().copied()).server(key.as_bytes())]
    }

    #[test]
    fn the_order_in_which_servers_are_named_is_all_one() {
        let [a, b, c] = THREE;
        let (one, other) = ([a, b, c], [c, a, b]);
        let rings = [one, other].map(|servers| Ring::new(servers.into_iter()));
        for key in keys() {
            assert_eq!(one[rings[0].server(key.as_bytes())], other[rings[1].server(key.as_bytes())], "{key}");
        }
    }

    #[test]
    fn a_fourth_server_takes_about_a_quarter_and_moves_nothing_else() {
        let four = [THREE[0], THREE[1], THREE[2], ("cache4", 11211)];
        let rings = [Ring::new(THREE.into_iter()), Ring::new(four.into_iter())];
        let mut moved = 0;
        for key in keys() {
            let [before, after] = rings.each_ref().map(|ring| ring.server(key.as_bytes()));
            if before != after {
                assert_eq!(after, 3, "{key} moves only to the new one");
                moved += 1;
            }
        }
        assert!((2000..3000).contains(&moved), "{moved} of 10,000");
    }

    #[test]
    fn each_server_has_about_a_third() {
        let (ring, mut shares) = (Ring::new(THREE.into_iter()), [0; 3]);
        keys().for_each(|key| shares[ring.server(key.as_bytes())] += 1);
        assert!(shares.iter().all(|share| (2500..4200).contains(share)), "{shares:?}");
    }

    /// Where libmemcached 1.0.18 (`MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED`) has put the first keys, each of which was looked
    /// for on real servers.
    #[test]
    fn keys_lie_where_libmemcached_puts_them() {
        let ring = Ring::new([("127.0.0.1", 11211), ("127.0.0.1", 21211), ("127.0.0.1", 21212)].into_iter());
        let found: Vec<_> = keys().take(24).map(|key| ring.server(key.as_bytes())).collect();
        assert_eq!(found, [2, 1, 2, 1, 2, 2, 2, 1, 1, 1, 2, 0, 0, 2, 1, 2, 1, 0, 2, 2, 1, 2, 1, 0]);
    }

    #[test]
    fn one_server_has_everything() {
        assert!(keys().all(|key| owner(&THREE[..1], &key) == THREE[0]));
    }
}
