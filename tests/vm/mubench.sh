# machine: --huge 48
# programs: build/mubench
# Runs in the guest: what the protocol adds to bare RDMA writes, and how long a
# leader's end takes to get over. The times are an emulator's; x, the protocol's
# latency as a multiple of the bare writes' in the same run, is what tells. At last,
# with the replicas' memory in huge pages.
mubench --fabric verbs --tick 50ms --ring-bytes 256k --batch 1 --outstanding 1 --count 400 &&
	mubench --fabric verbs --tick 20ms --failover 3 &&
	mubench --fabric verbs --tick 50ms --ring-bytes 512k --dir /dev/hugepages --payload 64 --batch 1 \
		--outstanding 1 --count 100
