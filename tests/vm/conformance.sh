# Runs in the guest: the contract of fabrics over verbs; and that memory on a
# hugetlbfs is registered as the huge pages that it is in.
# machine: --timeout 480 --huge 24
# programs: build/tests/conformance/conformance
conformance verbs &&
	CONFORMANCE_DIR=/dev/hugepages CONFORMANCE_HUGE_PAGES=yes \
		CONFORMANCE_FILTER='memory_is_in_huge_pages*' conformance verbs
