# Runs in the guest: the contract's races notice access rights that are taken away
# without a barrier. How soon is chance: after some rounds beside other work, not
# within thousands where the machine has nothing else to do. So no part of CI.
# machine: --timeout 480
# programs: build/tests/conformance/self_check
self_check verbs
