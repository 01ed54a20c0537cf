//! What follows the settings while the program runs, and what only a restart changes.

use super::Config;

macro_rules! settings {
    (
        waiting { $($section:ident.$waits:ident,)+ }
        following { $($first:ident$(.$rest:ident)?,)+ }
    ) => {
        /// The settings that keep their value until the program is started again: sockets, threads, which store it is
        /// and what lies in it, the form of the log.
        pub const ONLY_BY_RESTART: &[&str] = &[$(concat!(stringify!($section), ".", stringify!($waits))),+];

        /// All others: what they say is in force as soon as it has been read.
        pub const FOLLOWING: &[&str] = &[$(concat!(stringify!($first) $(, ".", stringify!($rest))?)),+];

        impl Config {
            /// The settings of [`ONLY_BY_RESTART`] that `new` has another value for.
            pub fn waiting(&self, new: &Self) -> Vec<&'static str> {
                let differs = [$(self.$section.$waits != new.$section.$waits),+];
                named(ONLY_BY_RESTART, &differs)
            }

            /// The settings of [`FOLLOWING`] that `new` has another value for.
            pub fn following(&self, new: &Self) -> Vec<&'static str> {
                let differs = [$(self.$first$(.$rest)? != new.$first$(.$rest)?),+];
                named(FOLLOWING, &differs)
            }

            /// `new`, but for what only a restart changes.
            pub fn followed_by(&self, new: &Self) -> Self {
                let mut followed = new.clone();
                $(followed.$section.$waits = self.$section.$waits.clone();)+
                followed
            }
        }
    };
}

fn named(keys: &[&'static str], differ: &[bool]) -> Vec<&'static str> {
    keys.iter().zip(differ).filter(|(_, differs)| **differs).map(|(key, _)| *key).collect()
}

settings! {
    waiting {
        proxy.listen,
        proxy.backend,
        proxy.workers,
        session.realm,
        store.url,
        store.revocations,
        store.cache,
        store.cache_password,
        store.cache_password_file,
        store.cache_lease,
        store.cache_on_error,
        store.next,
        store.previous,
        store.move_password,
        store.move_password_file,
        store.key_prefix,
        store.password,
        store.password_file,
        store.sentinel_password,
        store.sentinel_password_file,
        store.wait_replicas,
        store.tls_ca_file,
        store.tls_cert_file,
        store.tls_key_file,
        store.table,
        store.create_table,
        store.max_connections,
        store.statement_timeout,
        telemetry.listen,
        log.format,
    }
    following {
        proxy.trusted,
        proxy.forwarded,
        proxy.via,
        proxy.connect_timeout,
        proxy.head_timeout,
        proxy.header_timeout,
        proxy.idle_timeout,
        proxy.body_timeout,
        proxy.min_body_rate,
        proxy.max_head_bytes,
        proxy.max_headers,
        proxy.max_body_bytes,
        proxy.max_connections,
        proxy.max_requests,
        proxy.max_backend_connections,
        proxy.backend_idle_timeout,
        proxy.backend_max_age,
        proxy.max_tunnels,
        proxy.tunnel_idle_timeout,
        proxy.drain_delay,
        proxy.drain_timeout,
        cookie.name,
        cookie.age,
        cookie.domain,
        cookie.path,
        cookie.secure,
        cookie.http_only,
        cookie.same_site,
        cookie.partitioned,
        cookie.forward,
        cookie.keys,
        cookie.keys_file,
        cookie.previous,
        session.expire_at_browser_close,
        session.save_every_request,
        session.touch_interval,
        session.absolute_timeout,
        session.cycle_on,
        session.on_switch,
        session.on_gone,
        session.grace,
        session.ended_memory,
        session.max_bytes,
        session.max_keys,
        session.subject,
        session.keep_expired,
        headers.prefix,
        headers.secret,
        headers.secret_file,
        headers.also_strip,
        headers.require_nonce,
        headers.keys,
        headers.expose,
        headers.budget,
        headers.on_overflow,
        headers.required,
        headers.max_directive_bytes,
        headers.on_refused,
        headers.explain,
        headers.vary,
        errors.page,
        store.timeout,
        store.commit_timeout,
        store.on_error,
        store.encryption_keys,
        store.encryption_keys_file,
        store.unsealed,
        store.cookie_chunks,
        store.expired_memory,
        store.max_sessions,
        store.max_bytes,
        store.clear_interval,
        store.clear_batch,
        store.clear_pause,
        routes,
        telemetry.ready_needs_store,
        log.level,
        log.access,
        reload.interval,
    }
}
