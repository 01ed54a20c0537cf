//! What only a restart changes.

use super::Config;

macro_rules! only_by_restart {
    ($($key:literal $section:ident.$field:ident,)+) => {
        /// The settings that keep their value until the program is started again: sockets, the store, and what is
        /// built into both. All others follow their files.
        pub const ONLY_BY_RESTART: [&str; [$($key),+].len()] = [$($key),+];

        impl Config {
            /// The settings of that kind that `new` has another value for.
            pub fn waiting(&self, new: &Self) -> Vec<&'static str> {
                let differs = [$((self.$section.$field != new.$section.$field).then_some($key)),+];
                differs.into_iter().flatten().collect()
            }

            /// `new`, but for what only a restart changes.
            pub fn followed_by(&self, new: &Self) -> Self {
                let mut followed = new.clone();
                $(followed.$section.$field = self.$section.$field.clone();)+
                followed
            }
        }
    };
}

only_by_restart! {
    "proxy.listen" proxy.listen,
    "proxy.backend" proxy.backend,
    "proxy.workers" proxy.workers,
    "proxy.connect_timeout" proxy.connect_timeout,
    "proxy.head_timeout" proxy.head_timeout,
    "proxy.client_timeout" proxy.client_timeout,
    "proxy.backend_idle_timeout" proxy.backend_idle_timeout,
    "session.realm" session.realm,
    "headers.prefix" headers.prefix,
    "headers.also_strip" headers.also_strip,
    "store.url" store.url,
    "store.key_prefix" store.key_prefix,
    "store.password" store.password,
    "store.password_file" store.password_file,
    "store.tls_ca_file" store.tls_ca_file,
    "store.tls_cert_file" store.tls_cert_file,
    "store.tls_key_file" store.tls_key_file,
    "store.expired_memory" store.expired_memory,
    "store.max_sessions" store.max_sessions,
    "store.max_bytes" store.max_bytes,
    "telemetry.listen" telemetry.listen,
    "log.format" log.format,
}
