//! What an attacker may try: a client, a confused backend, whoever reads logs or the store.

mod leaks;
mod nonce;
mod spoofing;
