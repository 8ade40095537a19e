# Runs in the guest: 2,000 revocations over verbs of writers that are stopped, and
# as many of writers that are killed, all in their stream of writes. It takes long,
# so it is not part of CI, which has 200 and 40 of them.
# machine: --timeout 7200
# programs: build/tests/conformance/conformance
for fate in stopped killed; do
	CONFORMANCE_ROUNDS=2000 CONFORMANCE_FILTER="verbs_f4_f5_a_writer_${fate}*" \
		conformance verbs || exit
done
