package wire

import "fmt"

// Protocol versions as they stand on the wire.
const (
	VersionSSL30 = 0x0300
	VersionTLS10 = 0x0301
	VersionTLS11 = 0x0302
	VersionTLS12 = 0x0303
	VersionTLS13 = 0x0304
)

// Extension ids that this package reads.
const (
	extServerName              = 0
	extStatusRequest           = 5
	extSupportedGroups         = 10
	extECPointFormats          = 11
	extSignatureAlgorithms     = 13
	extALPN                    = 16
	extSCT                     = 18
	extExtendedMasterSecret    = 23
	extSessionTicket           = 35
	extPreSharedKey            = 41
	extEarlyData               = 42
	extSupportedVersions       = 43
	extCookie                  = 44
	extPSKModes                = 45
	extSignatureAlgorithmsCert = 50
	extKeyShare                = 51
	extECH                     = 0xfe0d
	extRenegotiationInfo       = 0xff01
)

// VersionName returns a protocol version in words, such as "TLS 1.3".
func VersionName(v uint16) string {
	switch v {
	case 0x0002:
		return "SSL 2.0"
	case VersionSSL30:
		return "SSL 3.0"
	case VersionTLS10:
		return "TLS 1.0"
	case VersionTLS11:
		return "TLS 1.1"
	case VersionTLS12:
		return "TLS 1.2"
	case VersionTLS13:
		return "TLS 1.3"
	}
	return nameless(v)
}

// CipherSuiteName returns the name that IANA registered for a cipher suite.
func CipherSuiteName(id uint16) string {
	if name := ianaCipherSuite(id); name != "" {
		return name
	}
	return nameless(id)
}

// IsPostQuantum says whether a group withstands a quantum computer: ML-KEM, alone
// or with a classic partner, and its drafts that browsers have sent.
func IsPostQuantum(group uint16) bool {
	switch group {
	case 512, 513, 514, 4587, 4588, 4589, 4590, 25497, 25498:
		return true
	}
	return false
}

// GroupName returns the name of a group (RFC 8446 section 4.2.7 and the IANA
// registry).
func GroupName(id uint16) string {
	// The curves of RFC 4492, which old clients still list.
	early := [...]string{
		"", "sect163k1", "sect163r1", "sect163r2", "sect193r1", "sect193r2", "sect233k1", "sect233r1", "sect239k1",
		"sect283k1", "sect283r1", "sect409k1", "sect409r1", "sect571k1", "sect571r1", "secp160k1", "secp160r1",
		"secp160r2", "secp192k1", "secp192r1", "secp224k1", "secp224r1", "secp256k1",
	}
	if id > 0 && int(id) < len(early) {
		return early[id]
	}
	switch id {
	case 23:
		return "secp256r1"
	case 24:
		return "secp384r1"
	case 25:
		return "secp521r1"
	case 26:
		return "brainpoolP256r1"
	case 27:
		return "brainpoolP384r1"
	case 28:
		return "brainpoolP512r1"
	case 29:
		return "x25519"
	case 30:
		return "x448"
	case 31:
		return "brainpoolP256r1tls13"
	case 32:
		return "brainpoolP384r1tls13"
	case 33:
		return "brainpoolP512r1tls13"
	case 41:
		return "curveSM2"
	case 256:
		return "ffdhe2048"
	case 257:
		return "ffdhe3072"
	case 258:
		return "ffdhe4096"
	case 259:
		return "ffdhe6144"
	case 260:
		return "ffdhe8192"
	case 512:
		return "MLKEM512"
	case 513:
		return "MLKEM768"
	case 514:
		return "MLKEM1024"
	case 4587:
		return "SecP256r1MLKEM768"
	case 4588:
		return "X25519MLKEM768"
	case 4589:
		return "SecP384r1MLKEM1024"
	case 4590:
		return "curveSM2MLKEM768"
	case 25497:
		return "X25519Kyber768Draft00"
	case 25498:
		return "SecP256r1Kyber768Draft00"
	}
	return nameless(id)
}

// SignatureSchemeName returns the name of a signature scheme (RFC 8446 section
// 4.2.3). Pairs of hash and signature that only TLS 1.2 knows (RFC 5246 section
// 7.4.1.4.1) are named in the same manner.
func SignatureSchemeName(id uint16) string {
	switch id {
	case 0x0201:
		return "rsa_pkcs1_sha1"
	case 0x0203:
		return "ecdsa_sha1"
	case 0x0401:
		return "rsa_pkcs1_sha256"
	case 0x0403:
		return "ecdsa_secp256r1_sha256"
	case 0x0420:
		return "rsa_pkcs1_sha256_legacy"
	case 0x0501:
		return "rsa_pkcs1_sha384"
	case 0x0503:
		return "ecdsa_secp384r1_sha384"
	case 0x0520:
		return "rsa_pkcs1_sha384_legacy"
	case 0x0601:
		return "rsa_pkcs1_sha512"
	case 0x0603:
		return "ecdsa_secp521r1_sha512"
	case 0x0620:
		return "rsa_pkcs1_sha512_legacy"
	case 0x0708:
		return "sm2sig_sm3"
	case 0x0804:
		return "rsa_pss_rsae_sha256"
	case 0x0805:
		return "rsa_pss_rsae_sha384"
	case 0x0806:
		return "rsa_pss_rsae_sha512"
	case 0x0807:
		return "ed25519"
	case 0x0808:
		return "ed448"
	case 0x0809:
		return "rsa_pss_pss_sha256"
	case 0x080a:
		return "rsa_pss_pss_sha384"
	case 0x080b:
		return "rsa_pss_pss_sha512"
	case 0x081a:
		return "ecdsa_brainpoolP256r1tls13_sha256"
	case 0x081b:
		return "ecdsa_brainpoolP384r1tls13_sha384"
	case 0x081c:
		return "ecdsa_brainpoolP512r1tls13_sha512"
	case 0x0904:
		return "mldsa44"
	case 0x0905:
		return "mldsa65"
	case 0x0906:
		return "mldsa87"
	}
	hashes := [...]string{"", "md5", "sha1", "sha224", "sha256", "sha384", "sha512"}
	signatures := [...]string{"", "rsa_pkcs1", "dsa", "ecdsa"}
	if hash, signature := id>>8, id&0xff; hash > 0 && int(hash) < len(hashes) && signature > 0 && int(signature) < len(signatures) {
		return signatures[signature] + "_" + hashes[hash]
	}
	return nameless(id)
}

// ExtensionName returns the name that IANA registered for an extension.
func ExtensionName(id uint16) string {
	switch id {
	case 0:
		return "server_name"
	case 1:
		return "max_fragment_length"
	case 2:
		return "client_certificate_url"
	case 3:
		return "trusted_ca_keys"
	case 4:
		return "truncated_hmac"
	case 5:
		return "status_request"
	case 6:
		return "user_mapping"
	case 7:
		return "client_authz"
	case 8:
		return "server_authz"
	case 9:
		return "cert_type"
	case 10:
		return "supported_groups"
	case 11:
		return "ec_point_formats"
	case 12:
		return "srp"
	case 13:
		return "signature_algorithms"
	case 14:
		return "use_srtp"
	case 15:
		return "heartbeat"
	case 16:
		return "application_layer_protocol_negotiation"
	case 17:
		return "status_request_v2"
	case 18:
		return "signed_certificate_timestamp"
	case 19:
		return "client_certificate_type"
	case 20:
		return "server_certificate_type"
	case 21:
		return "padding"
	case 22:
		return "encrypt_then_mac"
	case 23:
		return "extended_master_secret"
	case 24:
		return "token_binding"
	case 25:
		return "cached_info"
	case 27:
		return "compress_certificate"
	case 28:
		return "record_size_limit"
	case 34:
		return "delegated_credential"
	case 35:
		return "session_ticket"
	case 41:
		return "pre_shared_key"
	case 42:
		return "early_data"
	case 43:
		return "supported_versions"
	case 44:
		return "cookie"
	case 45:
		return "psk_key_exchange_modes"
	case 47:
		return "certificate_authorities"
	case 48:
		return "oid_filters"
	case 49:
		return "post_handshake_auth"
	case 50:
		return "signature_algorithms_cert"
	case 51:
		return "key_share"
	case 52:
		return "transparency_info"
	case 54:
		return "connection_id"
	case 55:
		return "external_id_hash"
	case 56:
		return "external_session_id"
	case 57:
		return "quic_transport_parameters"
	case 58:
		return "ticket_request"
	case 59:
		return "dnssec_chain"
	case 62:
		return "tls_flags"
	case 13172:
		return "next_protocol_negotiation"
	case 17513, 17613:
		return "application_settings"
	case 30032:
		return "channel_id"
	case 0xca34:
		return "trust_anchors"
	case 0xfd00:
		return "ech_outer_extensions"
	case 0xfe0d:
		return "encrypted_client_hello"
	case 0xff01:
		return "renegotiation_info"
	}
	return nameless(id)
}

// nameless is what stands for a value that nobody registered, or that this
// package does not know.
func nameless(id uint16) string {
	if IsGREASE(id) {
		return fmt.Sprintf("GREASE (%#04x)", id)
	}
	return fmt.Sprintf("%#04x", id)
}
