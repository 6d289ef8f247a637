// A certified OpenID provider for tests: anybody signs in as whom they say they are.
import Provider from 'oidc-provider';

const { port, issuer, clients } = JSON.parse(process.argv[2]);

const provider = new Provider(issuer, {
  clients,
  pkce: { required: () => true },
  features: { devInteractions: { enabled: true } },
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
  conformIdTokenClaims: false,
  // The account "anna" has anna@example.org, verified; "x-anna" says the same without proof; "none" has no address.
  findAccount: async (_context, id) => ({
    accountId: id,
    claims: async () => ({
      sub: id,
      name: id,
      ...(id === 'none' ? {} : { email: `${id.replace(/^x-/, '')}@example.org`, email_verified: !id.startsWith('x-') }),
    }),
  }),
});

provider.listen(port, '127.0.0.1', () => console.log('ready'));
