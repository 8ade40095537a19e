# Runs in the guest: the contract of fabrics over verbs.
# machine: --timeout 480
# programs: build/tests/conformance/conformance
conformance verbs
