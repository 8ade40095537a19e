# Runs in the guest: the contract of fabrics over verbs, and that its tests can fail.
# programs: build/tests/conformance/conformance build/tests/conformance/self_check
self_check verbs && conformance verbs
