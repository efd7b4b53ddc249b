/* SPDX-License-Identifier: Apache-2.0 */
/* The text parsers of net: resolv.conf, published ports, host entries, routing tables. */
#include <stdlib.h>

#include "net/internal.h"
#include "net/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was understood is written and read again without a difference. */
static void fuzz_resolv(const char *text, size_t size)
{
	_cleanup_(net_dns_done) struct net_dns dns = { 0 };
	_cleanup_(net_dns_done) struct net_dns again = { 0 };
	_cleanup_(buf_done) struct buf out = { 0 };

	if (net_dns_parse(text, size, &dns) < 0 || net_resolv_text(&dns, &out) < 0 ||
	    net_dns_parse((const char *)buf_head(&out), buf_len(&out), &again) < 0)
		return;
	if (again.n_servers != dns.n_servers || again.search.n != dns.search.n ||
	    again.options.n != dns.options.n)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep) char *text = malloc(size + 1);
	struct net_host host;
	struct net_port port;
	struct err e = { 0 };

	if (!text)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	fuzz_resolv((const char *)data, size);
	if (net_port_parse(text, &port, &e) == 0 &&
	    (port.count == 0 || port.host + port.count - 1 > UINT16_MAX ||
	     port.guest + port.count - 1 > UINT16_MAX))
		abort();
	(void)net_host_entry_check(text, &e);
	(void)net_hostname_check(text, &e);
	net_host_parse(text, text, &host);
	return 0;
}
