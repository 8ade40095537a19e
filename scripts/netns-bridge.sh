# Sourced by what joins network namespaces with a bridge: scripts/netns-group,
# tests/conformance/between-hosts.
# shellcheck shell=bash

# bridge_make HUB: the namespace HUB gets a bridge.
bridge_make() {
	ip -n "$1" link add br0 type bridge && ip -n "$1" link set br0 up
}

# bridge_join HUB ID: the namespace of replica ID, named as the hub is but for the
# end, gets eth0, which leads to portID of the bridge. It is down, without address.
bridge_join() {
	ip link add eth0 netns "${1%hub}$2" type veth peer name "port$2" netns "$1" &&
		ip -n "$1" link set "port$2" master br0 up
}
