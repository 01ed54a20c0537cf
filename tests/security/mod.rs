//! What an attacker may try: a client, a confused backend, whoever reads logs or the store.

mod boundary;
mod desync;
mod hiding;
mod leaks;
mod nonce;
mod sealing;
mod secrecy;
mod signed;
mod spoofing;
mod tossing;
