"""Memory safety: AddressSanitizer, UBSan, LeakSanitizer, valgrind, failing calls (docs/fuzzing.md)."""
