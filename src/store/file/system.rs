//! File systems, and which of them are no place for a store.

use std::path::Path;

use rustix::fs::StatFs;

/// File systems that other machines write to, by the number that `statfs` gives: their caches show what has been
/// replaced, and their locks are others' affair.
const REMOTE: [(u64, &str); 18] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "CephFS"),
    (0x0bd0_0bd3, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x7461_636f, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0x6b41_4653, "AFS"),
    (0x1983_0326, "BeeGFS"),
    (0x2003_0528, "OrangeFS"),
    (0xaad7_aaea, "PanFS"),
    (0x7375_7245, "Coda"),
    (0x786f_4256, "VirtualBox's shared folders"),
    (0xbacb_acbc, "VMware's shared folders"),
];

/// The number of a file system's kind. Some come with the sign of 32 bits before them.
pub(super) const fn number(system: &StatFs) -> u64 {
    system.f_type.cast_unsigned() & 0xffff_ffff
}

/// What the file system of this number is called, if other machines write to it too.
pub(super) fn remote(number: u64) -> Option<&'static str> {
    REMOTE.iter().find(|(remote, _)| *remote == number).map(|(_, name)| *name)
}

/// The kind of file system that a path is on, where other machines write to it too.
pub(in crate::store) fn remote_system(path: &Path) -> Option<&'static str> {
    rustix::fs::statfs(path).ok().and_then(|system| remote(number(&system)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_other_machines_are_known_by_their_numbers() {
        assert_eq!(remote(0x6969), Some("NFS"));
        assert_eq!(remote(0xff53_4d42), Some("CIFS"));
        assert_eq!(remote(0x1983_0326), Some("BeeGFS"));
        assert_eq!(remote(0x2003_0528), Some("OrangeFS"));
        assert_eq!(remote(0xaad7_aaea), Some("PanFS"));
        assert_eq!(remote(0x7375_7245), Some("Coda"));
        assert_eq!(remote(0x786f_4256), Some("VirtualBox's shared folders"));
        assert_eq!(remote(0xbacb_acbc), Some("VMware's shared folders"));
        assert_eq!(remote(0xef53), None, "ext4");
        assert_eq!(remote(0x0102_1994), None, "tmpfs");
    }
}
