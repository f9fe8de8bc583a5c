"""Memory safety: AddressSanitizer, UBSan, LeakSanitizer, valgrind, failing calls (docs/developers/fuzzing.md)."""
