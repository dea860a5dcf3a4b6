// The run that the page's address names.

export const addressOf = (index) => `#run=${index}`;

// the index of a run, null where the address names none of so many
export function runOf(address, runs) {
  const match = /^#run=(\d+)$/.exec(address);
  return match && Number(match[1]) < runs ? Number(match[1]) : null;
}

export function setAddress(index) {
  try {
    history.replaceState(null, "", addressOf(index));
  } catch {
    // not every place lets a page have an address
  }
}
