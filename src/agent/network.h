/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_NETWORK_H
#define PODVM_AGENT_NETWORK_H

/*
 * The guest's network as the host describes it: devices found by their MAC address get name, MTU
 * and addresses and are set up, then come neighbours and routes.
 */

#include <stdint.h>

#include "agent/netlink.h"
#include "base/err.h"
#include "proto/agent.pb-c.h"

/** network_loopback() - Set the loopback device up. Return: 0 or a negative errno */
int network_loopback(void);

/**
 * network_configure() - Apply what ConfigureSandbox says
 * @req:	Interfaces, routes, neighbours
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int network_configure(const Podvm__Agent__V1__ConfigureSandboxRequest *req, struct err *e);

/**
 * struct ip_prefix - An address with the length of its network's prefix
 * @family:	AF_INET or AF_INET6
 * @bytes:	Address in network order
 * @size:	4 or 16
 * @length:	0-32 or 0-128
 */
struct ip_prefix {
	uint8_t family;
	uint8_t bytes[16];
	uint8_t size;
	uint8_t length;
};

/** ip_parse() - "10.0.2.15/24" or an address alone (full length). Return: 0 or -EINVAL */
int ip_parse(const char *text, struct ip_prefix *ret);

/** mac_parse() - "02:00:00:00:00:01". Return: 0 or -EINVAL */
int mac_parse(const char *text, uint8_t ret[6]);

/**
 * network_build_address() - RTM_NEWADDR of one address
 * @req:	Gets the message
 * @index:	Device
 * @address:	"10.0.2.15/24", "fd00::2/64"
 * @no_prefix_route: The kernel makes no route for the address's network
 *
 * Return: 0 or a negative errno
 */
int network_build_address(struct nl_request *req, uint32_t index, const char *address,
			  bool no_prefix_route);

/**
 * network_build_route() - RTM_NEWROUTE
 * @req:	Message
 * @index:	Of the device, if the route has one
 * @r:		Route
 *
 * Return: 0 or a negative errno (-EINVAL: an address in it isn't one)
 */
int network_build_route(struct nl_request *req, uint32_t index, const Podvm__Agent__V1__Route *r);

#endif
