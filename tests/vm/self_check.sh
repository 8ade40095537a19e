# Runs in the guest: that the contract's tests can fail. Not part of CI: that a
# write lands behind flags alone is a matter of chance (up to 3 % of rounds on a
# busy host, none in 3,000 on a quiet one).
# programs: build/tests/conformance/self_check
self_check verbs
