#![no_main]

libfuzzer_sys::fuzz_target!(
    init: {
        // As Rust's own `main` does before anything else: whoever hangs up must not end us.
        // SAFETY: a signal's disposition is set before there is any other thread.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    },
    |input: &[u8]| coatroom_fuzz::exchange::check(input)
);
