// The browser's passkey calls, with binary members as unpadded base64url, the way the server speaks.

function toBytes(text) {
  const binary = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

function toText(buffer) {
  if (!buffer) return null;
  let binary = "";
  for (const byte of new Uint8Array(buffer)) binary += String.fromCharCode(byte);
  return btoa(binary).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

const withBytes = (descriptors = []) => (descriptors ?? []).map((descriptor) => ({ ...descriptor, id: toBytes(descriptor.id) }));

function ensureSupport() {
  if (!window.PublicKeyCredential) throw new Error("This browser has no passkeys. Use a current one, and open the page by https or on localhost.");
}

// What the browser's own errors mean for the user.
function explain(error) {
  const sentences = {
    NotAllowedError: "No passkey was used: it was cancelled, took too long, or there is none for this page. Try again.",
    InvalidStateError: "This device has a passkey for this account already. Log in with it.",
    NotSupportedError: "This device cannot make such a passkey. Use one with a screen lock, or a security key with a PIN.",
    SecurityError: "Passkeys do not work at this address. Open the page by its own address.",
  };
  return new Error(sentences[error.name] ?? `The passkey could not be used: ${error.message}`);
}

export async function createPasskey(options) {
  ensureSupport();
  const publicKey = {
    ...options,
    challenge: toBytes(options.challenge),
    user: { ...options.user, id: toBytes(options.user.id) },
    excludeCredentials: withBytes(options.excludeCredentials),
  };
  const made = await navigator.credentials.create({ publicKey }).catch((error) => Promise.reject(explain(error)));
  return {
    id: made.id,
    rawId: toText(made.rawId),
    type: made.type,
    response: {
      attestationObject: toText(made.response.attestationObject),
      clientDataJSON: toText(made.response.clientDataJSON),
      transports: made.response.getTransports?.() ?? [],
    },
  };
}

export async function usePasskey(options) {
  ensureSupport();
  const publicKey = { ...options, challenge: toBytes(options.challenge), allowCredentials: withBytes(options.allowCredentials) };
  const used = await navigator.credentials.get({ publicKey }).catch((error) => Promise.reject(explain(error)));
  return {
    id: used.id,
    rawId: toText(used.rawId),
    type: used.type,
    response: {
      authenticatorData: toText(used.response.authenticatorData),
      clientDataJSON: toText(used.response.clientDataJSON),
      signature: toText(used.response.signature),
      userHandle: toText(used.response.userHandle),
    },
  };
}
