# Runs in the guest: the contract of fabrics over verbs, and first that its races
# would notice access rights that are taken away without a barrier.
# machine: --timeout 480
# programs: build/tests/conformance/conformance build/tests/conformance/self_check
self_check verbs
self_checked=$?
conformance verbs && [ $self_checked = 0 ]
