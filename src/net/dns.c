/* SPDX-License-Identifier: Apache-2.0 */
/* resolv.conf(5): the host's is read, the guest's is written. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/fd.h"
#include "base/log.h"
#include "net/internal.h"

#define RESOLV_CONF	    "/etc/resolv.conf"
#define SYSTEMD_RESOLV_CONF "/run/systemd/resolve/resolv.conf"
#define SYSTEMD_STUB	    "127.0.0.53"
#define DOMAIN_MAX	    253
#define OPTION_MAX	    64
#define BLANK		    " \t\r"

static bool is_address(const char *s)
{
	unsigned char addr[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, s, addr) == 1 || inet_pton(AF_INET6, s, addr) == 1;
}

static bool only_chars(const char *s, const char *extra, size_t max)
{
	size_t n = strlen(s);

	if (n == 0 || n > max)
		return false;
	for (; *s; s++)
		if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
		      (*s >= '0' && *s <= '9') || strchr(extra, *s)))
			return false;
	return true;
}

static int add_server(struct net_dns *dns, const char *address)
{
	if (!is_address(address))
		return -EINVAL;
	if (dns->n_servers == NET_MAX_DNS)
		return -E2BIG;
	snprintf(dns->servers[dns->n_servers++], NET_ADDR_LEN, "%s", address);
	return 0;
}

static int add_search(struct net_dns *dns, const char *domain)
{
	if (!only_chars(domain, "._-", DOMAIN_MAX))
		return -EINVAL;
	return dns->search.n == NET_MAX_SEARCH ? -E2BIG : strv_add(&dns->search, domain);
}

static int add_option(struct net_dns *dns, const char *option)
{
	if (!only_chars(option, "-_:.", OPTION_MAX))
		return -EINVAL;
	return dns->options.n == NET_MAX_OPTIONS ? -E2BIG : strv_add(&dns->options, option);
}

static int add_error(int r, const char *what, const char *text, struct err *e)
{
	char quoted[128];

	if (r == -EINVAL)
		return err_set(e, r, "%s is not %s", log_quote(quoted, sizeof(quoted), text), what);
	if (r == -E2BIG)
		return err_set(e, r, "too many: %s is one more than the guest can be given",
			       log_quote(quoted, sizeof(quoted), text));
	return r < 0 ? err_oom(e) : 0;
}

int net_dns_add_server(struct net_dns *dns, const char *address, struct err *e)
{
	return add_error(add_server(dns, address), "an IP address", address, e);
}

int net_dns_add_search(struct net_dns *dns, const char *domain, struct err *e)
{
	return add_error(add_search(dns, domain), "a domain", domain, e);
}

int net_dns_add_option(struct net_dns *dns, const char *option, struct err *e)
{
	return add_error(add_option(dns, option), "an option of resolv.conf(5)", option, e);
}

/* Every word of the rest of a line. Return: 0 or -ENOMEM */
static int each_word(struct net_dns *dns, char **save, int (*add)(struct net_dns *, const char *))
{
	char *word;

	while ((word = strtok_r(NULL, BLANK, save)))
		if (add(dns, word) == -ENOMEM)
			return -ENOMEM;
	return 0;
}

static int parse_line(struct net_dns *dns, char *line)
{
	char *save = NULL;
	char *key;
	char *word;

	if (strchr("#; \t", *line))
		return 0;
	key = strtok_r(line, BLANK, &save);
	if (!key)
		return 0;
	if (str_eq(key, "nameserver")) {
		word = strtok_r(NULL, BLANK, &save);
		if (word)
			(void)add_server(dns, word);
		return 0;
	}
	if (str_eq(key, "search") || str_eq(key, "domain")) {
		strv_done(&dns->search); /* the last one counts */
		return each_word(dns, &save, add_search);
	}
	if (str_eq(key, "options"))
		return each_word(dns, &save, add_option);
	return 0;
}

int net_dns_parse(const char *text, size_t len, struct net_dns *dns)
{
	const char *end = text + MIN(len, NET_RESOLV_MAX);
	_cleanup_(freep) char *line = NULL;
	int r = 0;

	line = malloc((size_t)(end - text) + 1);
	if (!line)
		return -ENOMEM;
	while (text < end && r == 0) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		size_t n = (size_t)((nl ? nl : end) - text);

		memcpy(line, text, n);
		line[n] = '\0';
		r = parse_line(dns, line);
		text = nl ? nl + 1 : end;
	}
	return r;
}

/* A missing file leaves it empty. */
static int read_file(const char *path, struct net_dns *dns, struct err *e)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r;

	r = file_read(AT_FDCWD, path, NET_RESOLV_MAX, &text, &len);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_errno(e, r, "cannot read %s", path);
	return net_dns_parse(text, len, dns) < 0 ? err_oom(e) : 0;
}

bool net_dns_is_loopback(const char *server)
{
	return str_starts(server, "127.") || str_eq(server, "::1");
}

int net_dns_host(struct net_dns *dns, struct err *e)
{
	struct net_dns real = { 0 };
	int r;

	r = read_file(RESOLV_CONF, dns, e);
	if (r < 0 || dns->n_servers != 1 || !str_eq(dns->servers[0], SYSTEMD_STUB))
		return r;
	r = read_file(SYSTEMD_RESOLV_CONF, &real, e);
	if (r == 0 && real.n_servers > 0) {
		memcpy(dns->servers, real.servers, sizeof(dns->servers));
		dns->n_servers = real.n_servers;
	}
	net_dns_done(&real);
	return r;
}

/* Unless there already are some. */
static int copy_words(struct strv *to, const struct strv *from)
{
	int r = 0;

	if (to->n > 0)
		return 0;
	for (size_t i = 0; i < from->n && r == 0; i++)
		r = strv_add(to, from->v[i]);
	return r;
}

int net_dns_merge(struct net_dns *dns, const struct net_dns *from)
{
	int r;

	if (dns->n_servers == 0) {
		memcpy(dns->servers, from->servers, sizeof(dns->servers));
		dns->n_servers = from->n_servers;
	}
	r = copy_words(&dns->search, &from->search);
	return r < 0 ? r : copy_words(&dns->options, &from->options);
}

void net_dns_done(struct net_dns *dns)
{
	strv_done(&dns->search);
	strv_done(&dns->options);
	dns->n_servers = 0;
}

static int words_line(const char *key, const struct strv *words, struct buf *out)
{
	int r = words->n ? buf_printf(out, "%s", key) : 0;

	for (size_t i = 0; i < words->n && r == 0; i++)
		r = buf_printf(out, " %s", words->v[i]);
	return r == 0 && words->n ? buf_printf(out, "\n") : r;
}

int net_resolv_text(const struct net_dns *dns, struct buf *out)
{
	int r = words_line("search", &dns->search, out);

	for (size_t i = 0; i < dns->n_servers && r == 0; i++)
		r = buf_printf(out, "nameserver %s\n", dns->servers[i]);
	return r == 0 ? words_line("options", &dns->options, out) : r;
}
