# Runs in the guest: the contract of fabrics over verbs.
# programs: build/tests/conformance/conformance
conformance verbs
